//! The server that a user of tokio would write: the runtime of one thread, a task for each
//! connection, `read_buf` into `BytesMut`, `write_all`.

use std::process::ExitCode;

use bytes::{Buf as _, BytesMut};
use corelane_peers::{
    Failure, OrFailed as _, READ_BYTES, Stream, Words, announce, answer_whole, listener, run,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const NAME: &str = "tokio";

fn main() -> ExitCode {
    run(NAME, serve)
}

fn serve(words: Words) -> Result<(), Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .or_failed("the runtime cannot start")?
        .block_on(accept_all(words))
}

async fn accept_all(words: Words) -> Result<(), Failure> {
    let listener = listener(words.address)?;
    listener
        .set_nonblocking(true)
        .or_failed("the listener cannot be polled")?;
    let listener = TcpListener::from_std(listener).or_failed("the listener cannot be polled")?;
    announce(NAME, listener.local_addr())?;
    loop {
        let (stream, _) = listener.accept().await.or_failed("accept")?;
        stream.set_nodelay(true).or_failed("TCP_NODELAY")?;
        tokio::spawn(async move {
            // A connection that breaks is over; there is nobody to tell.
            let _ = echo(stream).await;
        });
    }
}

async fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    let mut input = BytesMut::new();
    let mut output = Vec::new();
    loop {
        // Gives the front of the buffer back, unless half a frame stands there.
        input.reserve(READ_BYTES);
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
        output.clear();
        let (taken, stream_is) = answer_whole(&input, &mut output);
        input.advance(taken);
        stream.write_all(&output).await?;
        if stream_is == Stream::Broken {
            return Ok(());
        }
    }
}
