//! How every peer starts: `NAME --listen ADDR --cpu N`, bound to that CPU before its runtime is
//! made, one line to stdout when it is ready, and then it serves until it is killed.

use std::fmt;
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};
use socket2::{Domain, Protocol, Socket, Type};

/// As corelane's default for `server.backlog`.
const BACKLOG: i32 = 4096;

/// Why a peer does not serve, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line is wrong.
    #[error("{0}")]
    Words(String),
    /// Something that it needs was refused.
    #[error("{what}: {why}")]
    Refused {
        /// What it did.
        what: String,
        /// What was said to it.
        why: String,
    },
}

/// Says what failed.
pub trait OrFailed<T> {
    /// The value, or a [`Failure`] to do `what`.
    fn or_failed(self, what: impl fmt::Display) -> Result<T, Failure>;
}

impl<T, E: fmt::Display> OrFailed<T> for Result<T, E> {
    fn or_failed(self, what: impl fmt::Display) -> Result<T, Failure> {
        self.map_err(|error| Failure::Refused {
            what: what.to_string(),
            why: error.to_string(),
        })
    }
}

/// What a peer was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words {
    /// Where to listen; port 0 takes any.
    pub address: SocketAddr,
    /// Where to run.
    pub cpu: usize,
}

impl Words {
    fn parse(words: impl IntoIterator<Item = String>) -> Result<Words, Failure> {
        let (mut address, mut cpu) = (None, None);
        let mut words = words.into_iter();
        while let Some(flag) = words.next() {
            let value = words
                .next()
                .ok_or_else(|| Failure::Words(format!("{flag} needs a value")))?;
            let wrong = |kind: &str| Failure::Words(format!("{flag} takes {kind}, not `{value}`"));
            match flag.as_str() {
                "--listen" => {
                    address = Some(value.parse().map_err(|_| wrong("an address with a port"))?);
                }
                "--cpu" => cpu = Some(value.parse().map_err(|_| wrong("the number of a CPU"))?),
                _ => {
                    return Err(Failure::Words(format!(
                        "{flag} is not known here; --listen ADDR and --cpu N are"
                    )));
                }
            }
        }
        match (address, cpu) {
            (Some(address), Some(cpu)) => Ok(Words { address, cpu }),
            _ => Err(Failure::Words(
                "--listen ADDR and --cpu N are both needed".to_owned(),
            )),
        }
    }
}

/// The whole of a peer's `main`: returns only if `serve` fails, with status 2 for wrong words and 1
/// for anything else.
pub fn run(name: &str, serve: impl FnOnce(Words) -> Result<(), Failure>) -> ExitCode {
    match Words::parse(std::env::args().skip(1)).and_then(|words| {
        pin_this_thread(words.cpu)?;
        raise_open_files()?;
        serve(words)
    }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{name}: {failure}");
            ExitCode::from(if matches!(failure, Failure::Words(_)) {
                2
            } else {
                1
            })
        }
    }
}

/// A listener whose sockets have `TCP_NODELAY`. It blocks, as rings want it; who polls changes that.
pub fn listener(address: SocketAddr) -> Result<TcpListener, Failure> {
    let bind = || -> io::Result<TcpListener> {
        let domain = Domain::for_address(address);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        // Linux hands it down to the sockets that are accepted.
        socket.set_tcp_nodelay(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    bind().or_failed(format_args!("{address} cannot be listened at"))
}

/// Says that `name` is ready, in the line that whoever started it waits for.
pub fn announce(name: &str, address: io::Result<SocketAddr>) -> Result<(), Failure> {
    let address = address.or_failed("the listener does not tell its address")?;
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{name}: listening on {address}")
        .and_then(|()| stdout.flush())
        .or_failed("nothing can be written to stdout")
}

fn pin_this_thread(cpu: usize) -> Result<(), Failure> {
    let mut set = CpuSet::new();
    if cpu < CpuSet::MAX_CPU {
        set.set(cpu);
    }
    sched_setaffinity(None, &set).or_failed(format_args!("this thread cannot run on CPU {cpu}"))
}

/// As far as this process may, since a connection takes a descriptor.
fn raise_open_files() -> Result<(), Failure> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, raised).or_failed("the limit of open files cannot be raised")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<Words, String> {
        Words::parse(words.split_whitespace().map(str::to_owned)).map_err(|error| error.to_string())
    }

    #[test]
    fn words_are_taken_in_any_order() {
        let expected = Words {
            address: ([127, 0, 0, 1], 8700).into(),
            cpu: 3,
        };
        assert_eq!(parse("--listen 127.0.0.1:8700 --cpu 3"), Ok(expected));
        assert_eq!(parse("--cpu 3 --listen 127.0.0.1:8700"), Ok(expected));
    }

    #[test]
    fn wrong_words_say_what_would_be_right() {
        for (words, expected) in [
            ("", "--listen ADDR and --cpu N are both needed"),
            ("--cpu 1", "--listen ADDR and --cpu N are both needed"),
            ("--cpu", "--cpu needs a value"),
            ("--cpu one", "--cpu takes the number of a CPU, not `one`"),
            (
                "--listen here",
                "--listen takes an address with a port, not `here`",
            ),
            (
                "--port 1",
                "--port is not known here; --listen ADDR and --cpu N are",
            ),
        ] {
            assert_eq!(parse(words), Err(expected.to_owned()));
        }
    }
}
