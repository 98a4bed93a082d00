//! What a process shows as: its title in `ps`, which is its zeroth argument, and the name of its
//! first thread, which `top` and `pgrep` show.

use std::io;

/// Names the first thread, and so the process, `corelane` whatever path it was started by. Call it
/// on the first thread.
///
/// # Errors
///
/// What the operating system says against it.
pub fn name_process() -> io::Result<()> {
    Ok(rustix::thread::set_name(c"corelane")?)
}

/// The title of a master with this configuration file.
pub fn of_master(file: Option<&std::path::Path>) -> String {
    match file {
        Some(file) => format!("{MASTER_TITLE} {}", file.display()),
        None => MASTER_TITLE.to_owned(),
    }
}

/// How the title of a master begins, by which it knows that it is one.
pub const MASTER_TITLE: &str = "corelane: master";

/// Whether the process with this id shows as a master.
pub fn is_master(pid: u32) -> bool {
    // Nobody is there, or nobody that this process may look at.
    let title = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    title.starts_with(MASTER_TITLE.as_bytes())
}
