//! The server that a user of compio would write: its io_uring driver, a task for each connection,
//! buffers that are handed to the kernel and come back.

use std::process::ExitCode;

use compio::BufResult;
use compio::driver::ProactorBuilder;
use compio::io::{AsyncRead as _, AsyncWriteExt as _};
use compio::net::{TcpListener, TcpStream};
use compio::runtime::RuntimeBuilder;
use corelane::protocol::Decoder;
use corelane_peers::{
    Failure, OrFailed as _, READ_BYTES, Stream, Words, announce, answer, listener, run,
};

const NAME: &str = "compio";
const ENTRIES: u32 = 4096;

fn main() -> ExitCode {
    run(NAME, serve)
}

fn serve(words: Words) -> Result<(), Failure> {
    let mut driver = ProactorBuilder::new();
    driver
        .capacity(ENTRIES)
        .single_issuer(true)
        .defer_taskrun(true);
    RuntimeBuilder::new()
        .with_proactor(driver)
        .thread_affinity([words.cpu].into())
        .build()
        .or_failed("the runtime cannot start")?
        .block_on(accept_all(words))
}

async fn accept_all(words: Words) -> Result<(), Failure> {
    let listener = TcpListener::from_std(listener(words.address)?)
        .or_failed("the listener cannot be taken over")?;
    announce(NAME, listener.local_addr())?;
    loop {
        let (stream, _) = listener.accept().await.or_failed("accept")?;
        stream.set_nodelay(true).or_failed("TCP_NODELAY")?;
        compio::runtime::spawn(async move {
            // A connection that breaks is over; there is nobody to tell.
            let _ = echo(stream).await;
        })
        .detach();
    }
}

async fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    let mut decoder = Decoder::new();
    let mut input = Vec::with_capacity(READ_BYTES);
    let mut output = Vec::new();
    loop {
        input.clear();
        let BufResult(received, buffer) = stream.read(input).await;
        input = buffer;
        if received? == 0 {
            return Ok(());
        }
        output.clear();
        let stream_is = answer(&mut decoder, &input, &mut output);
        if !output.is_empty() {
            let BufResult(sent, buffer) = stream.write_all(output).await;
            output = buffer;
            sent?;
        }
        if stream_is == Stream::Broken {
            return Ok(());
        }
    }
}
