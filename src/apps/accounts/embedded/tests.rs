use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use tempfile::TempDir;

use super::*;

fn account(hash: &str) -> Account {
    Account {
        kind: -7,
        hash: hash.to_owned(),
    }
}

fn site() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("accounts.redb");
    (folder, path)
}

/// A file of accounts with this many in it.
fn filled(path: &Path, count: usize) -> Embedded {
    let store = Embedded::at(path).unwrap();
    for number in 0..count {
        assert!(
            store
                .insert(&format!("name {number}"), &account("hash"))
                .unwrap()
        );
    }
    store
}

/// What a start says about the file, which it must leave as it is.
#[track_caller]
fn refusal(path: &Path) -> String {
    let before = fs::read(path).unwrap();
    let error = Embedded::patient_at(path, Duration::ZERO).unwrap_err();
    assert_eq!(fs::read(path).unwrap(), before, "it was changed");
    let text = error.to_string();
    assert!(
        text.starts_with(&format!("accounts.path is {path:?}, ")),
        "{text}"
    );
    assert!(!text.contains('\n') && !text.contains("  "), "{text}");
    text
}

#[test]
fn accounts_are_found_again_by_another_process() {
    let (_folder, path) = site();
    let store = Embedded::at(&path).unwrap();
    assert_eq!(store.find("alice").unwrap(), None);
    assert!(!path.exists(), "looking for a name makes no file");
    assert!(store.insert("alice", &account("hers")).unwrap());
    assert!(!store.insert("alice", &account("other")).unwrap());
    assert!(store.insert("Älice", &account("another's")).unwrap());

    let again = Embedded::at(&path).unwrap();
    assert_eq!(again.find("alice").unwrap(), Some(account("hers")));
    assert_eq!(again.find("Älice").unwrap(), Some(account("another's")));
    assert_eq!(again.find("alic").unwrap(), None);
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let files = fs::read_dir(path.parent().unwrap()).unwrap();
    assert_eq!(files.count(), 1, "no draft is left");
}

/// As two workers would, with a file that is not there yet.
#[test]
fn of_many_that_want_a_name_one_gets_it() {
    let (_folder, path) = site();
    let stores: Vec<_> = (0..4)
        .map(|_| Arc::new(Embedded::at(&path).unwrap()))
        .collect();
    for name in ["alice", "bob"] {
        let threads: Vec<_> = stores
            .iter()
            .cloned()
            .map(|store| std::thread::spawn(move || store.insert(name, &account("x")).unwrap()))
            .collect();
        let won = threads
            .into_iter()
            .filter_map(|thread| thread.join().unwrap().then_some(()));
        assert_eq!(won.count(), 1);
    }
}

#[test]
fn a_file_that_others_keep_open_is_tried_for_a_while() {
    let (_folder, path) = site();
    let mut store = filled(&path, 1);
    store.patience = Duration::from_millis(20);
    let held = builder().open(&path).unwrap();
    assert!(matches!(store.find("name 0"), Err(StoreError::Busy)));
    assert!(matches!(
        store.insert("x", &account("x")),
        Err(StoreError::Busy)
    ));
    assert!(refusal(&path).contains("another program keeps that file open"));

    store.patience = Duration::from_mins(1);
    let thread = std::thread::spawn(move || store.find("name 0").unwrap());
    drop(held);
    assert_eq!(thread.join().unwrap(), Some(account("hash")));
}

/// A process that is killed leaves a file that was not closed: ours is repaired when it is used.
#[test]
fn a_file_that_was_not_closed_is_ours_all_the_same() {
    let (_folder, path) = site();
    let store = filled(&path, 3);
    let database = builder().open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    let mut accounts = transaction.open_table(ACCOUNTS).unwrap();
    accounts.insert("lost", (1, "x")).unwrap();
    drop(accounts);
    // What a process leaves that is killed now.
    let left = fs::read(&path).unwrap();
    drop(transaction);
    drop(database);
    fs::write(&path, left).unwrap();
    let read_only = builder().open_read_only(&path).err();
    assert!(
        matches!(read_only, Some(DatabaseError::RepairAborted)),
        "{read_only:?}"
    );

    let before = fs::read(&path).unwrap();
    look::check(&path, Duration::ZERO).unwrap();
    assert_eq!(fs::read(&path).unwrap(), before, "looking changes nothing");
    assert_eq!(store.find("name 2").unwrap(), Some(account("hash")));
    assert_eq!(store.find("lost").unwrap(), None);
    assert!(builder().open_read_only(&path).is_ok());
}

#[test]
fn what_is_not_ours_is_told_and_left_alone() {
    let (folder, path) = site();
    for (content, what) in [
        (Vec::new(), "an empty file"),
        (b"some text\n".to_vec(), "no database"),
        (vec![0x72; 100_000], "no database"),
    ] {
        fs::write(&path, content).unwrap();
        let expected = format!("but that is {what}, not a file of accounts: ");
        let text = refusal(&path);
        assert!(text.contains(&expected), "{text}");
    }
    let error = Embedded::at(folder.path()).unwrap_err().to_string();
    assert!(
        error.contains("but that is a folder, not a file of accounts"),
        "{error}"
    );
}

/// A database of something else, open.
fn foreign(path: &Path) -> Database {
    const OTHER: TableDefinition<'_, u64, u64> = TableDefinition::new("other");
    let database = Database::create(path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(OTHER).unwrap().insert(1, 2).unwrap();
    transaction.commit().unwrap();
    database
}

#[test]
fn a_database_of_something_else_is_told_also_if_it_was_not_closed() {
    let (_folder, path) = site();
    let database = foreign(&path);
    let unclosed = fs::read(&path).unwrap();
    drop(database);
    assert!(refusal(&path).contains("but that is a database of something else"));
    fs::write(&path, unclosed).unwrap();
    assert!(builder().open_read_only(&path).is_err());
    assert!(refusal(&path).contains("but that is a database of something else"));
}

fn set_newer(path: &Path) {
    let database = builder().open(path).unwrap();
    let transaction = database.begin_write().unwrap();
    let mut format = transaction.open_table(FORMAT).unwrap();
    format.insert(FORMAT_OF, VERSION + 1).unwrap();
    drop(format);
    transaction.commit().unwrap();
}

#[test]
fn a_newer_format_is_told() {
    let (_folder, path) = site();
    drop(filled(&path, 1));
    set_newer(&path);
    let text = refusal(&path);
    let expected = "has format 2, but this program knows formats up to 1";
    assert!(text.contains(expected), "{text}");
}

/// Wherever a page is broken or the file is cut, the start says so or the file is as good as before.
#[test]
fn a_damaged_file_is_told() {
    let (_folder, path) = site();
    drop(filled(&path, 40));
    let whole = fs::read(&path).unwrap();
    for cut in [100, 4096, whole.len() / 2, whole.len() - 4096] {
        fs::write(&path, &whole[..cut]).unwrap();
        let text = refusal(&path);
        assert!(
            text.contains("that file of accounts is damaged ("),
            "{text}"
        );
    }
    // Where the hashes are.
    let hash = b"name 17";
    let places: Vec<_> = (0..whole.len() - hash.len())
        .filter(|&at| whole[at..].starts_with(hash))
        .collect();
    assert!(!places.is_empty());
    let mut broken = whole;
    for at in places {
        broken[at] ^= 1;
    }
    fs::write(&path, &broken).unwrap();
    let text = refusal(&path);
    assert!(
        text.contains("that file of accounts is damaged ("),
        "{text}"
    );
}

#[test]
fn a_file_needs_a_folder() {
    let (folder, _) = site();
    let path = folder.path().join("missing/accounts.redb");
    let error = Embedded::at(&path).unwrap_err().to_string();
    let missing = folder.path().join("missing");
    let expected = format!(
        "accounts.path is {path:?}, but no file can be made in {missing:?}: No such file or \
         directory (os error 2); create the folder and let the server's user write there, name \
         another path, or set accounts.store = \"off\""
    );
    assert_eq!(error, expected);
}

/// What neither looking for a name nor registering one is possible for.
#[track_caller]
fn both_fail(store: &Embedded) -> String {
    let told = [
        store.find("alice").map(drop).unwrap_err(),
        store.insert("alice", &account("x")).map(drop).unwrap_err(),
    ];
    let [one, other] = told.map(|error| match error {
        StoreError::Failed(text) => text,
        StoreError::Busy => panic!("nobody is at it"),
    });
    assert_eq!(one, other);
    one
}

/// Only the start looked at the file: what came to be there later was written into.
#[test]
fn what_comes_to_be_there_while_it_runs_is_looked_at_first() {
    let (_folder, path) = site();
    let store = Embedded::at(&path).unwrap();
    drop(foreign(&path));
    let before = fs::read(&path).unwrap();
    let told = both_fail(&store);
    assert!(told.contains("a database of something else"), "{told}");
    assert_eq!(fs::read(&path).unwrap(), before, "it was changed");

    fs::remove_file(&path).unwrap();
    assert!(store.insert("alice", &account("hers")).unwrap());
    let (_folder, other) = site();
    drop(filled(&other, 1));
    set_newer(&other);
    fs::rename(&other, path.with_extension("other")).unwrap();
    fs::rename(path.with_extension("other"), &path).unwrap();
    let told = both_fail(&store);
    assert!(told.contains("has format 2, but this program"), "{told}");
}

/// A program that shares the file brings it to a newer format.
#[test]
fn a_format_that_changes_while_it_runs_is_told() {
    let (_folder, path) = site();
    let store = filled(&path, 1);
    set_newer(&path);
    let told = both_fail(&store);
    assert!(told.contains("has format 2 by now, not 1"), "{told}");
    let database = builder().open(&path).unwrap();
    let accounts = database.begin_read().unwrap().open_table(ACCOUNTS).unwrap();
    assert!(
        redb::ReadableTable::get(&accounts, "alice")
            .unwrap()
            .is_none()
    );
}

/// It was taken for none: everybody was unknown, and a new file gave their names away.
#[test]
fn a_file_that_vanishes_is_missed_until_it_is_back() {
    let (_folder, path) = site();
    let store = Embedded::at(&path).unwrap();
    assert!(store.insert("alice", &account("hers")).unwrap());
    let away = path.with_extension("away");
    fs::rename(&path, &away).unwrap();
    for _ in 0..2 {
        let told = both_fail(&store);
        assert!(told.contains("was there and is gone"), "{told}");
    }
    assert!(!path.exists(), "none is made");
    fs::rename(&away, &path).unwrap();
    assert_eq!(store.find("alice").unwrap(), Some(account("hers")));
    // A copy that is put back is as good.
    fs::copy(&path, &away).unwrap();
    fs::rename(&away, &path).unwrap();
    assert!(!store.insert("alice", &account("another's")).unwrap());
}
