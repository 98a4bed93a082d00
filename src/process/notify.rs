//! Words between processes by datagrams, as sd_notify(3) has them: a worker tells its master, and
//! a master systemd, that it is ready; a master tells whoever sent an order what came of it.
//!
//! A [`Mailbox`] says which process sent each datagram, by the kernel's word: nobody can speak for
//! another.

use std::ffi::OsStr;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::cmsg_space;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags,
    SocketAddrUnix, SocketFlags, SocketType, bind, getsockname, recvmsg, sendto, socket_with,
    sockopt,
};

/// What a process says that is ready.
pub const READY: &str = "READY=1";
/// What a process says that goes down.
pub const STOPPING: &str = "STOPPING=1";
/// What a worker says that has reopened its log.
pub const REOPENED: &str = "X_CORELANE_REOPENED=1";

/// What a worker says that has taken another configuration over.
pub const RELOADED: &str = "X_CORELANE_RELOADED=1";
/// What a worker says that can't; it goes on with the one that it had.
pub const NOT_RELOADED: &str = "X_CORELANE_RELOADED=0";
/// What a worker is told whose place another has taken; it drains.
pub const REPLACED: &str = "X_CORELANE_REPLACED=1";
/// How a worker says where it gets mail from its master: an address follows.
pub const MAILBOX: &str = "X_CORELANE_MAILBOX=";

/// The variable that says where to send words.
pub const VARIABLE: &str = "NOTIFY_SOCKET";

/// Longest datagram that is taken, in bytes; longer ones are thrown away.
pub(crate) const DATAGRAM_BYTES_MAX: usize = 64 * 1024;

/// Tells whoever started this process, if it wants to be told.
///
/// # Errors
///
/// What the operating system says against it.
pub fn tell(words: &str) -> io::Result<()> {
    match std::env::var_os(VARIABLE) {
        Some(address) if !address.is_empty() => send(&address, words),
        _ => Ok(()),
    }
}

/// Sends to a socket: the path of one, or an abstract name after an `@`.
///
/// # Errors
///
/// `ConnectionRefused` or `NotFound` where nobody listens.
pub fn send(address: &OsStr, words: &str) -> io::Result<()> {
    send_with(address, words, SendFlags::NOSIGNAL)
}

/// As [`send`], but never waits for whoever does not read.
///
/// # Errors
///
/// As [`send`], and `WouldBlock`.
pub(crate) fn send_at_once(address: &OsStr, words: &str) -> io::Result<()> {
    send_with(address, words, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
}

fn send_with(address: &OsStr, words: &str, flags: SendFlags) -> io::Result<()> {
    let address = address_of(address)?;
    let socket = socket(SocketFlags::CLOEXEC)?;
    sendto(&socket, words.as_bytes(), flags, &address)?;
    Ok(())
}

fn address_of(address: &OsStr) -> io::Result<SocketAddrUnix> {
    let bytes = address.as_encoded_bytes();
    Ok(match bytes.strip_prefix(b"@") {
        Some(name) => SocketAddrUnix::new_abstract_name(name)?,
        None => SocketAddrUnix::new(address)?,
    })
}

fn socket(flags: SocketFlags) -> io::Result<OwnedFd> {
    Ok(socket_with(
        AddressFamily::UNIX,
        SocketType::DGRAM,
        flags,
        None,
    )?)
}

/// Where words come in. Its name is in no folder: nothing is left behind.
#[derive(Debug)]
pub struct Mailbox {
    socket: OwnedFd,
    address: String,
}

impl Mailbox {
    /// A mailbox with a name of the kernel's choice.
    ///
    /// # Errors
    ///
    /// What the operating system says against it.
    pub fn open() -> io::Result<Mailbox> {
        Mailbox::bound(&SocketAddrUnix::new_unnamed())
    }

    /// A mailbox with this abstract name.
    ///
    /// # Errors
    ///
    /// `AddrInUse` if it has an owner.
    pub fn named(name: &str) -> io::Result<Mailbox> {
        Mailbox::bound(&SocketAddrUnix::new_abstract_name(name.as_bytes())?)
    }

    /// The mailbox that an old program has left.
    ///
    /// # Errors
    ///
    /// What the operating system says against it.
    pub(crate) fn inherit(socket: OwnedFd) -> io::Result<Mailbox> {
        Mailbox::of(socket)
    }

    fn bound(address: &SocketAddrUnix) -> io::Result<Mailbox> {
        let socket = socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        // Before anybody can send, so that no datagram comes without its sender.
        sockopt::set_socket_passcred(&socket, true)?;
        bind(&socket, address)?;
        Mailbox::of(socket)
    }

    fn of(socket: OwnedFd) -> io::Result<Mailbox> {
        let bound = SocketAddrUnix::try_from(getsockname(&socket)?)?;
        let name = bound.abstract_name().unwrap_or_default();
        let address = format!("@{}", String::from_utf8_lossy(name));
        Ok(Mailbox { socket, address })
    }

    /// Its address, for [`VARIABLE`].
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The next datagram and the process that sent it; nothing if none is there.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn receive(&self) -> io::Result<Option<(u32, String)>> {
        loop {
            let mut bytes = vec![0; DATAGRAM_BYTES_MAX];
            let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmCredentials(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut slices = [IoSliceMut::new(&mut bytes)];
            let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
            let received = match recvmsg(&self.socket, &mut slices, &mut control, flags) {
                // Half of it may say something else.
                Ok(received) if received.flags.contains(ReturnFlags::TRUNC) => continue,
                Ok(received) => received.bytes,
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let sender = control.drain().find_map(|message| match message {
                RecvAncillaryMessage::ScmCredentials(sender) => Some(sender.pid),
                // Descriptors that somebody sent along are closed.
                _ => None,
            });
            // One without a sender is from a process that this one can't see.
            if let Some(sender) = sender {
                let pid = sender.as_raw_pid().unsigned_abs();
                let words = String::from_utf8_lossy(&bytes[..received]).into_owned();
                return Ok(Some((pid, words)));
            }
        }
    }
}

impl AsFd for Mailbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_with_their_sender() {
        let mailbox = Mailbox::open().unwrap();
        assert_eq!(mailbox.receive().unwrap(), None);
        for words in [READY, "", "STATUS=a\nREADY=1"] {
            send(OsStr::new(mailbox.address()), words).unwrap();
            let expected = (std::process::id(), words.to_owned());
            assert_eq!(mailbox.receive().unwrap(), Some(expected));
        }
        assert_eq!(mailbox.receive().unwrap(), None);
    }

    #[test]
    fn what_is_too_long_is_thrown_away() {
        let mailbox = Mailbox::open().unwrap();
        let longest = "x".repeat(DATAGRAM_BYTES_MAX);
        for words in [&format!("{longest}x"), &longest] {
            send(OsStr::new(mailbox.address()), words).unwrap();
        }
        assert_eq!(mailbox.receive().unwrap().unwrap().1, longest);
        assert_eq!(mailbox.receive().unwrap(), None);
    }

    #[test]
    fn a_name_has_one_owner_and_a_gone_one_is_told() {
        let name = format!("corelane/test/{}", std::process::id());
        let mailbox = Mailbox::named(&name).unwrap();
        assert_eq!(mailbox.address(), format!("@{name}"));
        let error = Mailbox::named(&name).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let address = mailbox.address().to_owned();
        drop(mailbox);
        let error = send(OsStr::new(&address), READY).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_socket_may_be_a_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str(), READY).unwrap();
        let mut bytes = [0; 16];
        let length = socket.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..length], READY.as_bytes());
    }
}
