//! What does an idle connection cost the server in resident memory?
//!
//! Thousands of connections are opened, each exchanges one PING, so that the server really has
//! it, and then says nothing more. What the server keeps resident is read before and after from
//! the kernel's own books, and the difference divided by their number. "Before" is after a first
//! wave of connections that were closed again: pools and tables then exist, and what they cost is
//! the server's price, not a connection's. The kernel's memory for sockets is not in these
//! figures; it is the same for every server. README.md, beside this file, has the table.

#![allow(clippy::expect_used)] // what cannot fail here says so
#![allow(clippy::cast_precision_loss)] // sizes and counts fit a double
#![allow(clippy::cast_possible_truncation)] // only the seeds of bodies are cut

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use corelane::load::Memory;
use corelane::protocol::{HEADER_BYTES, codes, encode};
use socket2::{Domain, Protocol, Socket, Type};

use self::support::flags::{Flag, Flags};
use self::support::machine::{Cpus, describe, raise_open_files};
use self::support::server::{Kind, Server, corelane_binary, selected};
use self::support::stats::{Table, digits};
use self::support::{Failure, OrFailed as _, glommio_server};

mod support;

const FLAGS: &[Flag] = &[
    Flag {
        name: "--connections",
        value: "N",
        meaning: "how many stay idle (15000)",
    },
    Flag {
        name: "--only",
        value: "NAME",
        meaning: "corelane, epoll or glommio; may be repeated (all)",
    },
    Flag {
        name: "--server-cpu",
        value: "N",
        meaning: "where the servers run (the first allowed)",
    },
    Flag {
        name: "--binary",
        value: "PATH",
        meaning: "another corelane binary (the one just built)",
    },
];

/// Descriptors that client and server need beside the connections.
const OTHER_FILES: u64 = 100;
/// Connections of the wave that comes and goes before the first reading.
const WARM_UP: usize = 100;
/// From each address of 127.0.0.0/8: fewer than a system's free ports.
const PER_SOURCE: usize = 20_000;
const REPLY_WITHIN: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    support::main("idle", FLAGS, bench)
}

fn bench(flags: &Flags) -> Result<(), Failure> {
    let servers = selected(Kind::all(corelane_binary(flags)?, 50), flags.all("--only"))?;
    let cpu = flags.last("--server-cpu", "the number of a CPU")?;
    let cpu = Cpus::choose(cpu, None)?.server;
    let connections = connections(flags)?;

    println!("{}", describe());
    println!(
        "{connections} idle connections to one server after the other, each on CPU {cpu}; \
         glommio's tasks read into {} KiB each",
        glommio_server::READ_BYTES / 1024
    );
    let mut table = Table::new(&[
        "server",
        "resident bytes/connection",
        "anonymous bytes/connection",
        "resident before",
        "resident after",
        "expected",
    ]);
    for kind in &servers {
        eprintln!("  {kind}: opening {connections} connections");
        let (before, after) = grown(kind, cpu, connections).map_err(|failure| match failure {
            Failure::Running(sentence) => Failure::Running(format!("{kind}: {sentence}")),
            words @ Failure::Words(_) => words,
        })?;
        let each = |before: u64, after: u64| (after as f64 - before as f64) / connections as f64;
        table.row(vec![
            kind.name().to_owned(),
            format!("{:.0}", each(before.resident_bytes, after.resident_bytes)),
            format!("{:.0}", each(before.anonymous_bytes, after.anonymous_bytes)),
            mebibytes(before.resident_bytes),
            mebibytes(after.resident_bytes),
            match kind {
                Kind::Corelane { .. } => "at most 512".to_owned(),
                _ => "-".to_owned(),
            },
        ]);
    }
    println!("\n{table}");
    Ok(())
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", digits(bytes as f64 / f64::from(1 << 20)))
}

/// As many as asked for, or as fit under the limit of open files.
fn connections(flags: &Flags) -> Result<usize, Failure> {
    let asked = flags.last("--connections", "a whole number from 1 on")?;
    let asked: u64 = asked.unwrap_or(15_000);
    if asked == 0 {
        return Err(Failure::Words(
            "--connections must be at least 1".to_owned(),
        ));
    }
    let limit = raise_open_files()?;
    let fitting = asked.min(limit.saturating_sub(OTHER_FILES));
    if fitting < asked {
        println!(
            "{asked} connections were asked for, but a process may have only {limit} open files \
             here (`ulimit -Hn`): {fitting} it is"
        );
    }
    usize::try_from(fitting).or_failed("--connections")
}

/// What the server keeps resident before the connections, and with all of them idle.
fn grown(kind: &Kind, cpu: usize, connections: usize) -> Result<(Memory, Memory), Failure> {
    let server = Server::start(kind, cpu)?;
    drop(open(server.address(), WARM_UP.min(connections))?);
    let before = settled(&server)?;
    let mut idle = open(server.address(), connections)?;
    let after = settled(&server)?;
    // Only now is it known that the server had all of them while it was looked at.
    for (index, stream) in idle.iter_mut().enumerate() {
        ping(stream).or_failed(format_args!(
            "connection {index} of {connections} did not stay open"
        ))?;
    }
    // The server's ends close first: then no port of ours stays in TIME_WAIT.
    drop(server);
    Ok((before, after))
}

/// The first reading that is the same as the one before it; after a while, the last.
fn settled(server: &Server) -> Result<Memory, Failure> {
    const PAUSE: Duration = Duration::from_millis(250);
    const WITHIN: Duration = Duration::from_secs(5);
    let deadline = Instant::now() + WITHIN;
    let mut last = server.memory()?;
    loop {
        std::thread::sleep(PAUSE);
        let now = server.memory()?;
        if now == last || Instant::now() >= deadline {
            return Ok(now);
        }
        last = now;
    }
}

fn open(address: SocketAddr, connections: usize) -> Result<Vec<TcpStream>, Failure> {
    (0..connections)
        .map(|index| {
            connect(address, index)
                .and_then(|mut stream| ping(&mut stream).map(|()| stream))
                .or_failed(format_args!("connection {index} of {connections}"))
        })
        .collect()
}

fn connect(address: SocketAddr, index: usize) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    if let Some(source) = source(index) {
        socket.bind(&SocketAddr::from((source, 0)).into())?;
    }
    socket.connect(&address.into())?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(REPLY_WITHIN))?;
    Ok(stream)
}

/// The first ones come from wherever the kernel likes, the next from 127.0.0.2, and so on.
fn source(index: usize) -> Option<Ipv4Addr> {
    let number = u32::try_from(index / PER_SOURCE).ok().filter(|&n| n > 0)?;
    Some(Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + number))
}

fn ping(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut request = Vec::with_capacity(HEADER_BYTES);
    encode(&mut request, codes::PING, &[]).expect("nothing fits a frame");
    stream.write_all(&request)?;
    let mut reply = [0; HEADER_BYTES];
    stream.read_exact(&mut reply)?;
    if reply[..] == request[..] {
        Ok(())
    } else {
        Err(std::io::Error::other(format!(
            "a PING was answered by the header {reply:02x?}"
        )))
    }
}
