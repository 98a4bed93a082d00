//! The server that a user of glommio would write: its own listener and streams, one task a
//! connection, a read buffer of its own in each.

use std::io::Write as _;
use std::net::Ipv4Addr;

use corelane::protocol::Decoder;
use futures_lite::{AsyncReadExt as _, AsyncWriteExt as _};
use glommio::net::{TcpListener, TcpStream};
use glommio::{LocalExecutorBuilder, Placement};

use super::frames::{Stream, answer};
use super::{Failure, OrFailed as _};

/// What a connection's read buffer holds: what the others read at once, too.
pub(crate) const READ_BYTES: usize = 64 * 1024;

/// Serves on a free port of 127.0.0.1, on this CPU, until the process is killed.
pub(crate) fn serve(cpu: usize) -> Result<(), Failure> {
    LocalExecutorBuilder::new(Placement::Fixed(cpu))
        .make()
        .or_failed(format_args!(
            "glommio's executor does not start on CPU {cpu}"
        ))?
        .run(accept_all())
}

async fn accept_all() -> Result<(), Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).or_failed("bind")?;
    let address = listener.local_addr().or_failed("getsockname")?;
    println!("glommio: listening on {address} (1 executor)");
    std::io::stdout().flush().or_failed("stdout")?;
    loop {
        let stream = listener
            .accept()
            .await
            .or_failed("the glommio server cannot accept")?;
        stream.set_nodelay(true).or_failed("TCP_NODELAY")?;
        glommio::spawn_local(async move {
            // A connection that breaks is over; there is nobody to tell.
            let _ = echo(stream).await;
        })
        .detach();
    }
}

async fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    let mut input = vec![0; READ_BYTES];
    let mut output = Vec::new();
    let mut decoder = Decoder::new();
    loop {
        let received = stream.read(&mut input).await?;
        if received == 0 {
            return Ok(());
        }
        output.clear();
        let stream_is = answer(&mut decoder, &input[..received], &mut output);
        stream.write_all(&output).await?;
        if stream_is == Stream::Broken {
            return Ok(());
        }
    }
}
