use std::cell::Cell;
use std::net::SocketAddr;

use axum::routing::get;
use tokio::runtime::Builder;

use super::*;

/// Serves one connection with a page of a megabyte; `ask` is the client. The clock is made up: it
/// goes on by itself when nothing else does.
fn with_client<Ask: Future<Output = ()>>(ask: impl FnOnce(TcpStream) -> Ask) {
    with_client_and_end(Clock::MadeUp, async |client, _retired| ask(client).await);
}

#[derive(Clone, Copy, PartialEq)]
enum Clock {
    /// For what takes long; where the host is slow to carry bytes, it may take longer.
    MadeUp,
    Real,
}

/// Likewise; the client can have the server retire.
fn with_client_and_end<Ask: Future<Output = ()>>(
    clock: Clock,
    ask: impl FnOnce(TcpStream, watch::Sender<bool>) -> Ask,
) {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .start_paused(clock == Clock::MadeUp)
        .build()
        .unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)));
        let listener = listener.await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let client = client.await.unwrap();
        let stream = next(&listener).await;
        let router = Router::new().route("/", get(async || "x".repeat(1 << 20)));
        let retired = watch::Sender::new(false);
        let activity = Arc::new(Activity::new());
        let served = serve_one(stream, activity, router, retired.subscribe());
        tokio::join!(served, ask(client, retired));
    });
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n";

async fn read(client: &TcpStream) -> usize {
    let mut bytes = vec![0; 1 << 16];
    loop {
        client.readable().await.unwrap();
        match client.try_read(&mut bytes) {
            Ok(count) => return count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // A reset is an end, too.
            Err(_) => return 0,
        }
    }
}

#[test]
fn a_connection_that_goes_on_asking_ends_at_last() {
    // Where the host is slow to carry an answer, the clock takes that for having nothing to do
    // and jumps, which makes a connection quiet that is not: then it has to be tried again.
    let has_jumped = Cell::new(true);
    for _ in 0..100 {
        has_jumped.set(false);
        with_client(async |client| go_on_asking(&client, &has_jumped).await);
        if !has_jumped.get() {
            return;
        }
    }
    panic!("the clock has always jumped");
}

async fn go_on_asking(client: &TcpStream, has_jumped: &Cell<bool>) {
    let began = Instant::now();
    while client.try_write(REQUEST).is_ok() {
        let asked = Instant::now();
        let mut left_bytes = 1_usize << 20;
        while left_bytes > 0 {
            let count = read(client).await;
            if count == 0 {
                break;
            }
            left_bytes = left_bytes.saturating_sub(count);
        }
        has_jumped.set(has_jumped.get() || !asked.elapsed().is_zero());
        if left_bytes > 0 || has_jumped.get() {
            break;
        }
        sleep(Duration::from_secs(3)).await;
    }
    let took = began.elapsed();
    let expected = AGE_MAX..AGE_MAX + Duration::from_secs(4);
    assert!(has_jumped.get() || expected.contains(&took), "{took:?}");
}

#[test]
fn a_connection_that_takes_no_answer_is_dropped() {
    with_client(async |client| {
        let began = Instant::now();
        // Many times what fits on the way.
        for _ in 0..64 {
            assert_eq!(client.try_write(REQUEST).unwrap(), REQUEST.len());
        }
        sleep(AGE_MAX + LAST_ANSWER_MAX + Duration::from_secs(1)).await;
        let mut received_bytes = 0;
        loop {
            let count = read(&client).await;
            if count == 0 {
                break;
            }
            received_bytes += count;
        }
        assert!(received_bytes < 64 << 20, "{received_bytes}");
        let took = began.elapsed();
        assert!(took < AGE_MAX + LAST_ANSWER_MAX * 2, "{took:?}");
    });
}

#[test]
fn a_connection_that_says_nothing_is_ended() {
    with_client(async |client| {
        let began = Instant::now();
        assert_eq!(read(&client).await, 0);
        let took = began.elapsed();
        assert!(took >= HEAD_MAX && took < HEAD_MAX * 2, "{took:?}");
    });
}

/// Reads until the end; gives back what came.
async fn read_to_end(client: &TcpStream) -> String {
    let mut text = String::new();
    let mut bytes = vec![0; 1 << 16];
    loop {
        client.readable().await.unwrap();
        match client.try_read(&mut bytes) {
            Ok(0) => return text,
            Ok(count) => text.push_str(std::str::from_utf8(&bytes[..count]).unwrap()),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
    }
}

#[test]
fn a_first_request_is_answered_though_the_server_retires_before_it_is_read() {
    for asks_later in [false, true] {
        with_client_and_end(Clock::Real, async |client, retired| {
            if !asks_later {
                client.try_write(REQUEST).unwrap();
            }
            retired.send_replace(true);
            if asks_later {
                for _ in 0..9 {
                    yield_now().await;
                }
                client.try_write(REQUEST).unwrap();
            }
            let answer = read_to_end(&client).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer:.100}");
            // One that is under way already can't say so any more.
            let is_last = answer.contains("connection: close\r\n");
            assert!(is_last || !asks_later, "{answer:.300}");
        });
    }
}

#[test]
fn a_first_request_is_not_waited_for_long_when_the_server_retires() {
    for half in ["", "GET / HT"] {
        with_client_and_end(Clock::MadeUp, async |client, retired| {
            client.try_write(half.as_bytes()).unwrap();
            retired.send_replace(true);
            let began = Instant::now();
            assert_eq!(read_to_end(&client).await, "");
            let took = began.elapsed();
            assert!((LAST_REQUEST_MAX..HEAD_MAX).contains(&took), "{took:?}");
        });
    }
}

#[test]
fn a_connection_that_was_answered_and_is_quiet_ends_at_once_when_the_server_retires() {
    with_client_and_end(Clock::Real, async |client, retired| {
        client
            .try_write(b"HEAD / HTTP/1.1\r\nHost: here\r\n\r\n")
            .unwrap();
        assert!(read(&client).await > 0);
        let began = Instant::now();
        retired.send_replace(true);
        assert_eq!(read_to_end(&client).await, "");
        assert!(began.elapsed() < LAST_REQUEST_MAX, "{:?}", began.elapsed());
    });
}
