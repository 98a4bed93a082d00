//! The kernel's side: io_uring, sockets, eventfd, CPUs, clock, what a host must have, and children
//! that descriptors are passed to. Beside that, `checksum`: what only some CPUs can compute.
//!
//! The only room with unsafe code. It knows bytes, descriptors and tokens, never frames or
//! handlers. Nothing that safe code outside can do with what it offers is undefined behaviour:
//! memory that the kernel may touch belongs to the ring until the kernel is done with it.
#![allow(unsafe_code)] // this is the room for it

pub(crate) mod background;
mod buffers;
pub(crate) mod checksum;
pub(crate) mod child;
pub(crate) mod clock;
pub(crate) mod cpus;
mod doorbell;
pub(crate) mod host;
pub(crate) mod passed;
mod ring;
pub(crate) mod socket;
mod wakeup;

pub(crate) use buffers::{BUFFER_BYTES, Received};
pub(crate) use doorbell::Doorbell;
pub(crate) use ring::{Event, Ring, SendBytes, Socket, Token};
pub(crate) use wakeup::Wakeup;
