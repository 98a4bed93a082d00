//! The server that a user of glommio would write: its own listener and streams, a task and a read
//! buffer for each connection.

use std::process::ExitCode;

use corelane::protocol::Decoder;
use corelane_peers::{Failure, OrFailed as _, READ_BYTES, Stream, Words, announce, answer, run};
use futures_lite::{AsyncReadExt as _, AsyncWriteExt as _};
use glommio::net::{TcpListener, TcpStream};
use glommio::{LocalExecutorBuilder, Placement};

const NAME: &str = "glommio";

fn main() -> ExitCode {
    run(NAME, serve)
}

fn serve(words: Words) -> Result<(), Failure> {
    LocalExecutorBuilder::new(Placement::Fixed(words.cpu))
        .make()
        .or_failed("the executor cannot start")?
        .run(accept_all(words))
}

async fn accept_all(words: Words) -> Result<(), Failure> {
    let listener = TcpListener::bind(words.address)
        .or_failed(format_args!("{} cannot be listened at", words.address))?;
    announce(NAME, listener.local_addr().map_err(Into::into))?;
    loop {
        let stream = listener.accept().await.or_failed("accept")?;
        stream.set_nodelay(true).or_failed("TCP_NODELAY")?;
        glommio::spawn_local(async move {
            // A connection that breaks is over; there is nobody to tell.
            let _ = echo(stream).await;
        })
        .detach();
    }
}

async fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    let mut decoder = Decoder::new();
    let mut input = vec![0; READ_BYTES];
    let mut output = Vec::new();
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
