//! Children that are programs of their own, with sockets passed on as sd_listen_fds(3) has it.

use std::ffi::{CString, OsString, c_char};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::ptr;

use nix::sys::signal::SigSet;

use super::passed::FIRST;

/// What a child is to be.
pub(crate) struct Launch<'a> {
    /// The file to execute.
    pub(crate) program: &'a Path,
    /// Its only argument, the zeroth: what it shows as.
    pub(crate) title: &'a str,
    /// Its environment, but for `LISTEN_PID`, which is added.
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// Its standard input.
    pub(crate) stdin: OwnedFd,
    /// Its descriptors from 3 on, in this order.
    pub(crate) passed: &'a [BorrowedFd<'a>],
}

/// Starts a child in a process group of its own, with no signal blocked; gives back its process
/// id. Whoever calls this reaps it.
///
/// # Errors
///
/// What the operating system says against the program file, a process or a descriptor more.
pub(crate) fn start(launch: Launch) -> io::Result<u32> {
    let end = FIRST + RawFd::try_from(launch.passed.len()).map_err(io::Error::other)?;
    // Their places in the child may be taken by one another here; above all places none is.
    let sources: Vec<OwnedFd> = launch
        .passed
        .iter()
        .map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, end))
        .collect::<Result<_, _>>()?;
    let taken = take_places(launch.stdin.as_fd(), end)?;
    let mut image = Image::new(&launch, sources)?;
    let mut command = Command::new(launch.program);
    command.stdin(Stdio::from(launch.stdin)).process_group(0);
    // SAFETY: between fork and exec, `take_over` calls dup2, getpid, pthread_sigmask and execve
    // alone, which are async-signal-safe, allocates nothing and takes no lock; what it reads was
    // made before the fork and is its own.
    unsafe { command.pre_exec(move || Err(image.take_over())) };
    let child = command.spawn()?;
    drop(taken);
    Ok(child.id())
}

/// Takes all descriptors below `end` that are free, so that whatever `Command` opens to learn of a
/// failed exec gets one that no passed descriptor replaces.
fn take_places(any: BorrowedFd, end: RawFd) -> io::Result<Vec<OwnedFd>> {
    let mut taken = Vec::new();
    loop {
        let lowest = rustix::io::fcntl_dupfd_cloexec(any, FIRST)?;
        if lowest.as_raw_fd() >= end {
            return Ok(taken);
        }
        taken.push(lowest);
    }
}

const LISTEN_PID: &[u8] = b"LISTEN_PID=";
/// Digits of the largest process id, and the NUL.
const PID_BYTES_MAX: usize = 11;

/// All that execve needs, made before the fork: the child must not allocate.
struct Image {
    program: CString,
    sources: Vec<OwnedFd>,
    /// Own the texts that the vectors of pointers point to; not touched again.
    _texts: Vec<CString>,
    arguments: Vec<*const c_char>,
    /// The last but the final null is for `LISTEN_PID`.
    environment: Vec<*const c_char>,
    listen_pid: [u8; LISTEN_PID.len() + PID_BYTES_MAX],
}

// SAFETY: the pointers point into `_texts`, which moves with them; its buffers stay where they are,
// and nothing changes them.
unsafe impl Send for Image {}
// SAFETY: through a shared reference nothing of it can be reached but by reading.
unsafe impl Sync for Image {}

impl Image {
    fn new(launch: &Launch, sources: Vec<OwnedFd>) -> io::Result<Image> {
        let title = CString::new(launch.title)?;
        let arguments = vec![title.as_ptr(), ptr::null()];
        let mut texts = vec![title];
        let mut environment = Vec::with_capacity(launch.environment.len() + 2);
        for (name, value) in &launch.environment {
            let text = [name.as_bytes(), b"=", value.as_bytes()].concat();
            let text = CString::new(text)?;
            environment.push(text.as_ptr());
            texts.push(text);
        }
        environment.extend([ptr::null(), ptr::null()]);
        Ok(Image {
            program: CString::new(launch.program.as_os_str().as_bytes())?,
            sources,
            _texts: texts,
            arguments,
            environment,
            listen_pid: [0; _],
        })
    }

    /// Becomes the program. Returns only if it can't.
    fn take_over(&mut self) -> io::Error {
        if let Err(error) = SigSet::empty().thread_set_mask() {
            return error.into();
        }
        for (place, source) in (FIRST..).zip(&self.sources) {
            // SAFETY: takes two numbers. What it closes at `place` was opened by `take_places`, or
            // by the parent with close-on-exec; this process ends or execs before it is used again.
            if unsafe { libc::dup2(source.as_raw_fd(), place) } < 0 {
                return io::Error::last_os_error();
            }
        }
        self.write_pid(std::process::id());
        if let [.., place, _null] = self.environment.as_mut_slice() {
            *place = self.listen_pid.as_ptr().cast();
        }
        let (arguments, environment) = (self.arguments.as_ptr(), self.environment.as_ptr());
        // SAFETY: all three point to what `self` owns: a text that ends with NUL, and two lists of
        // such texts that end with a null pointer.
        unsafe { libc::execve(self.program.as_ptr(), arguments, environment) };
        io::Error::last_os_error()
    }

    /// Without formatting, which may allocate.
    fn write_pid(&mut self, pid: u32) {
        let (name, digits) = self.listen_pid.split_at_mut(LISTEN_PID.len());
        name.copy_from_slice(LISTEN_PID);
        let count = pid.checked_ilog10().unwrap_or(0) as usize + 1;
        let mut rest = pid;
        for digit in digits.iter_mut().take(count).rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read as _, Write as _};

    use rustix::process::{Pid, WaitOptions, waitpid};

    use super::*;

    /// Has a shell tell what it got, on the second of two descriptors that are passed on.
    fn tell(program: &str, script: &str) -> io::Result<(u32, String)> {
        let (stdin, mut words) = io::pipe()?;
        let (mut answer, out) = io::pipe()?;
        let other = File::open("/dev/null")?;
        let environment = vec![("WORD".into(), "some words".into())];
        let pid = start(Launch {
            program: Path::new(program),
            title: "sh",
            environment,
            stdin: stdin.into(),
            passed: &[other.as_fd(), out.as_fd()],
        })?;
        drop(out);
        words.write_all(script.as_bytes())?;
        drop(words);
        let mut told = String::new();
        answer.read_to_string(&mut told)?;
        waitpid(Pid::from_raw(pid.cast_signed()), WaitOptions::empty())?;
        Ok((pid, told))
    }

    #[test]
    fn a_child_gets_its_pid_its_environment_and_descriptors_from_3_on() {
        let script = r#"echo "$LISTEN_PID $$ $WORD $0 $(readlink /proc/$$/fd/3)" >&4"#;
        let (pid, told) = tell("/bin/sh", script).unwrap();
        assert_eq!(told, format!("{pid} {pid} some words sh /dev/null\n"));
    }

    #[test]
    fn a_program_that_is_not_there_is_told() {
        let error = tell("/nowhere/sh", "").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn pids_are_written_with_all_digits() {
        let (_, null) = io::pipe().unwrap();
        let launch = Launch {
            program: Path::new("x"),
            title: "x",
            environment: Vec::new(),
            stdin: null.into(),
            passed: &[],
        };
        for (pid, text) in [
            (1, "LISTEN_PID=1\0"),
            (10, "LISTEN_PID=10\0"),
            (u32::MAX, "LISTEN_PID=4294967295\0"),
        ] {
            let mut image = Image::new(&launch, Vec::new()).unwrap();
            image.write_pid(pid);
            assert!(image.listen_pid.starts_with(text.as_bytes()), "{pid}");
        }
    }
}
