//! The files below a root: that of the host, or a folder that a test has made up.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::config::CpuList;

pub(super) struct Tree<'a> {
    root: &'a Path,
}

impl<'a> Tree<'a> {
    pub(super) fn new(root: &'a Path) -> Tree<'a> {
        Tree { root }
    }

    /// A file or folder; a leading slash is the root's.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    pub(super) fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.path(path)).ok()
    }

    /// The text without what surrounds it, if anything is left.
    pub(super) fn word(&self, path: &str) -> Option<String> {
        let text = self.text(path)?;
        Some(text.trim().to_owned()).filter(|word| !word.is_empty())
    }

    pub(super) fn number<T: FromStr>(&self, path: &str) -> Option<T> {
        self.word(path)?.parse().ok()
    }

    /// The CPUs of a list like `0-3,8`.
    pub(super) fn cpus(&self, path: &str) -> Option<Vec<usize>> {
        let list: CpuList = self.number(path)?;
        Some(list.ids().iter().map(|&cpu| usize::from(cpu)).collect())
    }

    /// What is in a folder, sorted.
    pub(super) fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder))
            .into_iter()
            .flatten()
            .flatten();
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort_unstable();
        names
    }

    pub(super) fn processes(&self) -> impl Iterator<Item = u32> {
        self.names("proc")
            .into_iter()
            .filter_map(|name| name.parse().ok())
    }
}
