//! Files that are no files of accounts, and folders where none can be: a start says so and leaves
//! them as they are.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use redb::{Database, TableDefinition};

use crate::program::{MODEST, run};
use crate::support::{Came, Site, try_register};
use crate::user::{User as _, connect};

/// The sentence of a server that does not start with this file.
#[track_caller]
fn refusal(site: &Site) -> String {
    let path = site.setting();
    let mut words = vec!["--admin", "off", "--listen", "127.0.0.1:0", "--set", &path];
    for setting in MODEST {
        words.extend(["--set", setting]);
    }
    let sentence = run(&words).failed_with(1).to_owned();
    assert!(sentence.starts_with("accounts.path is "), "{sentence}");
    sentence
}

fn made(site: &Site) -> Vec<u8> {
    let server = site.serve(&[]);
    let mut client = connect(server.address());
    assert_eq!(
        try_register(&mut client, "alice", "correct horse"),
        Came::Done
    );
    drop(server);
    fs::read(site.path()).unwrap()
}

#[test]
fn a_file_of_something_else_is_left_alone() {
    const OTHER: TableDefinition<'_, u64, u64> = TableDefinition::new("other");
    let site = Site::new();
    for (content, what) in [(&b""[..], "an empty file"), (b"a text\n", "no database")] {
        fs::write(site.path(), content).unwrap();
        let sentence = refusal(&site);
        assert!(
            sentence.contains(&format!("but that is {what}, ")),
            "{sentence}"
        );
        assert_eq!(fs::read(site.path()).unwrap(), content);
    }
    fs::remove_file(site.path()).unwrap();
    let database = Database::create(site.path()).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(OTHER).unwrap().insert(1, 2).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let before = fs::read(site.path()).unwrap();
    let sentence = refusal(&site);
    assert!(
        sentence.contains("a database of something else"),
        "{sentence}"
    );
    assert_eq!(fs::read(site.path()).unwrap(), before);

    fs::remove_file(site.path()).unwrap();
    fs::create_dir(site.path()).unwrap();
    let sentence = refusal(&site);
    assert!(sentence.contains("but that is a folder, "), "{sentence}");
}

#[test]
fn a_damaged_file_is_left_alone() {
    let site = Site::new();
    let whole = made(&site);
    let cut = &whole[..whole.len() / 2];
    let at = whole
        .windows(5)
        .position(|bytes| bytes == b"alice")
        .unwrap();
    let mut flipped = whole.clone();
    flipped[at] ^= 1;
    for damaged in [cut, &flipped] {
        fs::write(site.path(), damaged).unwrap();
        let sentence = refusal(&site);
        assert!(sentence.contains("is damaged ("), "{sentence}");
        assert_eq!(fs::read(site.path()).unwrap(), damaged);
    }
    fs::write(site.path(), &whole).unwrap();
    drop(site.serve(&[]));
}

#[test]
fn a_newer_file_is_left_alone() {
    const FORMAT: TableDefinition<'_, &str, u64> = TableDefinition::new("corelane.format");
    let site = Site::new();
    made(&site);
    let database = Database::open(site.path()).unwrap();
    let transaction = database.begin_write().unwrap();
    let mut format = transaction.open_table(FORMAT).unwrap();
    format.insert("accounts", 2).unwrap();
    drop(format);
    transaction.commit().unwrap();
    drop(database);
    let before = fs::read(site.path()).unwrap();
    let sentence = refusal(&site);
    assert!(
        sentence.contains("has format 2, but this program"),
        "{sentence}"
    );
    assert_eq!(fs::read(site.path()).unwrap(), before);
}

#[test]
fn without_a_folder_to_write_in_the_sentence_says_what_to_do() {
    let site = Site::new();
    let path = site.folder.path().join("missing/accounts.redb");
    let path = format!("accounts.path={}", path.display());
    let mut words = vec!["--admin", "off", "--listen", "127.0.0.1:0", "--set", &path];
    for setting in MODEST {
        words.extend(["--set", setting]);
    }
    let ended = run(&words);
    let sentence = ended.failed_with(1);
    assert!(sentence.contains("accounts.path is "), "{sentence}");
    assert!(sentence.contains("accounts.store = \"off\""), "{sentence}");
}

#[test]
fn the_file_is_made_by_the_first_account_and_is_its_users_alone() {
    let site = Site::new();
    let server = site.serve(&[]);
    let mut client = connect(server.address());
    client.ping();
    assert!(!site.path().exists());
    assert_eq!(
        try_register(&mut client, "alice", "correct horse"),
        Came::Done
    );
    let mode = fs::metadata(site.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
