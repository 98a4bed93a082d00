//! A new file of accounts: it appears whole or not at all.

use std::fs::{File, OpenOptions, Permissions, remove_file};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use rustix::fs::{CWD, RenameFlags, renameat_with, syncfs};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

use super::{ACCOUNTS, FORMAT, FORMAT_OF, VERSION, builder};

/// For whom hashes of passwords are: their owner.
const MODE: u32 = 0o600;

/// Makes an empty file of accounts, if there is none yet. It is there for good once [`keep_place`]
/// has returned, for whoever commits to it.
///
/// It is made under a name of its own beside its place and moved there, so that nobody finds half
/// of one, whoever is killed meanwhile. What a kill can leave behind is a file `PATH.new-...` that
/// nobody looks at.
pub(super) fn make(path: &Path) -> io::Result<()> {
    let draft = draft_of(path)?;
    let made = fill(&draft).and_then(|()| place(&draft, path));
    if made.is_err() {
        // Its failure is the lesser one.
        let _ = remove_file(&draft);
    }
    made
}

fn draft_of(path: &Path) -> io::Result<PathBuf> {
    let mut random = [0; 8];
    getrandom(&mut random, GetRandomFlags::empty())?;
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".new-{:016x}", u64::from_ne_bytes(random)));
    Ok(name.into())
}

fn fill(draft: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(draft)?;
    // The umask may have taken from it.
    file.set_permissions(Permissions::from_mode(MODE))?;
    write_format(file).map_err(io::Error::other)
}

fn write_format(file: File) -> Result<(), redb::Error> {
    let database = builder().create_with_backend(FileBackend::new(file)?)?;
    let transaction = database.begin_write()?;
    transaction.open_table(FORMAT)?.insert(FORMAT_OF, VERSION)?;
    transaction.open_table(ACCOUNTS)?;
    transaction.commit()?;
    database.close()?;
    Ok(())
}

/// Moves the draft to its place, unless another process was faster.
fn place(draft: &Path, path: &Path) -> io::Result<()> {
    match renameat_with(CWD, draft, CWD, path, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => remove_file(draft),
        Err(error) => Err(error.into()),
    }
}

/// Has it on disk that the file is in its folder. Whoever finds a file there does not know whether
/// the process that made it came to do so before it was killed.
pub(super) fn keep_place(path: &Path) -> io::Result<()> {
    match File::open(folder_of(path)) {
        Ok(folder) => folder.sync_all(),
        // Who may not list a folder can still use a file in it, and have all of the disk written.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Ok(syncfs(File::open(path)?)?)
        }
        Err(error) => Err(error),
    }
}

/// The folder that this file is in.
pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}
