//! Every peer written in Rust answers as it should, so that the comparison compares servers that
//! are right.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also where its support does it"
)]

mod support;

macro_rules! peer {
    ($name:ident, $variable:literal) => {
        mod $name {
            crate::support::promises!(env!($variable));
        }
    };
}

peer!(tokio, "CARGO_BIN_EXE_peer-tokio");
peer!(monoio, "CARGO_BIN_EXE_peer-monoio");
peer!(compio, "CARGO_BIN_EXE_peer-compio");
peer!(glommio, "CARGO_BIN_EXE_peer-glommio");
peer!(epoll, "CARGO_BIN_EXE_peer-epoll");
peer!(io_uring, "CARGO_BIN_EXE_peer-io-uring");
