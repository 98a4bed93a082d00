//! A file that is looked at as a database and stays as it is, whatever the database does to it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::backends::FileBackend;
use redb::{BackendError, DatabaseError, StorageBackend};

const PAGE_BYTES: usize = 4096;

/// A backend that reads a file and keeps in memory what is written: opening a database that was
/// not closed repairs it, and one that may be somebody else's is not ours to repair.
#[derive(Debug)]
pub(super) struct Untouched {
    file: FileBackend,
    view: Mutex<View>,
}

/// What the file would be, as far as it is not what it is.
#[derive(Debug)]
struct View {
    len: u64,
    /// How much of the file shows through; beyond are zeros.
    shown: u64,
    /// Pages that were written to, by number.
    pages: BTreeMap<u64, Box<[u8; PAGE_BYTES]>>,
}

impl Untouched {
    /// Takes a file that is open for reading and writing, so that it can be locked.
    pub(super) fn new(file: File) -> Result<Untouched, DatabaseError> {
        let len = file.metadata()?.len();
        Ok(Untouched {
            file: FileBackend::new(file)?,
            view: Mutex::new(View {
                len,
                shown: len,
                pages: BTreeMap::new(),
            }),
        })
    }

    fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl View {
    fn check(&self, offset: u64, bytes: usize) -> io::Result<()> {
        match offset.checked_add(bytes as u64) {
            Some(end) if end <= self.len => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// What the file itself has at this place, with zeros where it does not show.
    fn read_file(&self, file: &FileBackend, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let shown = self.shown.saturating_sub(offset);
        let shown = usize::try_from(shown).map_or(out.len(), |shown| shown.min(out.len()));
        let (shown, hidden) = out.split_at_mut(shown);
        hidden.fill(0);
        if !shown.is_empty() {
            file.read(offset, shown)?;
        }
        Ok(())
    }

    fn page(&mut self, file: &FileBackend, number: u64) -> io::Result<&mut [u8; PAGE_BYTES]> {
        if !self.pages.contains_key(&number) {
            let mut page = Box::new([0; PAGE_BYTES]);
            self.read_file(file, number * PAGE_BYTES as u64, page.as_mut_slice())?;
            self.pages.insert(number, page);
        }
        self.pages
            .get_mut(&number)
            .map(Box::as_mut)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// The pages that a range touches: the number of each, where in it the range begins, and the part
/// of the range that is in it.
fn parts(offset: u64, bytes: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let page_bytes = PAGE_BYTES as u64;
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == bytes {
            return None;
        }
        let at = offset + done as u64;
        let within = usize::try_from(at % page_bytes).ok()?;
        let part = done..bytes.min(done + PAGE_BYTES - within);
        done = part.end;
        Some((at / page_bytes, within, part))
    })
}

impl StorageBackend for Untouched {
    fn len(&self) -> io::Result<u64> {
        Ok(self.view().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let view = self.view();
        view.check(offset, out.len())?;
        for (number, within, part) in parts(offset, out.len()) {
            let out = &mut out[part.clone()];
            match view.pages.get(&number) {
                Some(page) => out.copy_from_slice(&page[within..within + out.len()]),
                None => view.read_file(&self.file, offset + part.start as u64, out)?,
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut view = self.view();
        if len < view.len {
            let page_bytes = PAGE_BYTES as u64;
            view.shown = view.shown.min(len);
            view.pages.retain(|number, _| number * page_bytes < len);
            let within = usize::try_from(len % page_bytes).unwrap_or(0);
            if let Some(page) = view.pages.get_mut(&(len / page_bytes)) {
                page[within..].fill(0);
            }
        }
        view.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut view = self.view();
        view.check(offset, data.len())?;
        for (number, within, part) in parts(offset, data.len()) {
            let data = &data[part];
            view.page(&self.file, number)?[within..within + data.len()].copy_from_slice(data);
        }
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Random operations, against a plain vector; the file stays as it was.
    #[test]
    fn it_shows_what_is_written_and_writes_nothing() {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let mut random = fastrand::Rng::with_seed(7);
        let mut model: Vec<u8> = (0..3 * PAGE_BYTES + 100).map(|_| random.u8(..)).collect();
        std::fs::write(&path, &model).unwrap();
        let before = model.clone();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let untouched = Untouched::new(file).unwrap();
        for _ in 0..2000 {
            let start = random.usize(..=model.len());
            let bytes = random.usize(..=(model.len() - start).min(2 * PAGE_BYTES));
            match random.u8(..5) {
                0 => {
                    let len = random.usize(..6 * PAGE_BYTES);
                    untouched.set_len(len as u64).unwrap();
                    model.resize(len, 0);
                }
                1 | 2 => {
                    let data: Vec<u8> = (0..bytes).map(|_| random.u8(..)).collect();
                    untouched.write(start as u64, &data).unwrap();
                    model[start..start + bytes].copy_from_slice(&data);
                }
                _ => {
                    let mut out = vec![1; bytes];
                    untouched.read(start as u64, &mut out).unwrap();
                    assert_eq!(out, model[start..start + bytes]);
                }
            }
            assert_eq!(untouched.len().unwrap(), model.len() as u64);
        }
        let end = model.len() as u64;
        assert!(untouched.read(end, &mut [0]).is_err());
        assert!(untouched.write(end, &[0]).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }
}
