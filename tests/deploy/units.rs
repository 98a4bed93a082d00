//! `corelane.service` and `corelane.socket`.

use corelane::config::ProcessMode;
use corelane::process::master::GRACE_MS;

use crate::program::run;
use crate::{PROGRAM, here, in_force, signals_of, text};

const SERVICE: &str = "deploy/corelane.service";

/// The configuration that is installed along with it.
const SHIPPED: &str = "config/corelane.toml";

/// The settings of a unit, with the section in front: `Service.User` and `corelane`.
fn settings(unit: &str) -> Vec<(String, String)> {
    let text = text(unit);
    let mut section = "";
    let mut settings = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.strip_suffix(']').unwrap();
        } else if let Some((key, value)) = line.split_once('=')
            && !line.starts_with('#')
        {
            assert!(!value.ends_with('\\'), "{unit}: {line}: a line is one line");
            settings.push((format!("{section}.{key}"), value.to_owned()));
        }
    }
    settings
}

/// The one value of a key.
fn setting(unit: &str, key: &str) -> String {
    let all = settings(unit).into_iter();
    let values: Vec<String> = all
        .filter_map(|(known, value)| (known == key).then_some(value))
        .collect();
    assert_eq!(values.len(), 1, "{unit}: {key}: {values:?}");
    values.concat()
}

/// The words behind the program in a command of the service.
fn words_of(command: &str) -> Vec<&str> {
    let mut words = command.split(' ');
    assert_eq!(words.next(), Some(PROGRAM), "{command}");
    words.collect()
}

/// Milliseconds of a setting in seconds, the only form that is used.
fn milliseconds(key: &str) -> u64 {
    setting(SERVICE, key).parse::<u64>().unwrap() * 1000
}

#[test]
fn what_the_service_starts_is_accepted_and_has_a_master() {
    let start = setting(SERVICE, "Service.ExecStart");
    let config = in_force(&words_of(&start), SHIPPED);
    assert_eq!(config.process.mode, ProcessMode::Supervised);
    assert_eq!(config.process.user(), None, "systemd changes the user");

    let pid_file = config.process.pid_file().expect("a pid file");
    let folder = setting(SERVICE, "Service.RuntimeDirectory");
    assert_eq!(
        pid_file.parent().unwrap(),
        std::path::Path::new("/run").join(folder)
    );
}

/// The word is one that the program knows, and it looks for the server where the start puts it.
#[test]
fn a_reload_finds_the_master() {
    let start = setting(SERVICE, "Service.ExecStart");
    let config = in_force(&words_of(&start), SHIPPED);
    let pid_file = config.process.pid_file().expect("a pid file");

    let reload = setting(SERVICE, "Service.ExecReload");
    let nowhere = tempfile::tempdir().unwrap();
    let nowhere = nowhere.path().join("pid");
    let words = words_of(&reload);
    let words = here(
        &words,
        pid_file.to_str().unwrap(),
        nowhere.to_str().unwrap(),
    );
    assert_eq!(words[0], "reload");
    let ended = run(&words);
    let sentence = ended.failed_with(1);
    assert!(sentence.contains(nowhere.to_str().unwrap()), "{sentence}");
}

#[test]
fn it_is_stopped_by_the_signal_that_drains() {
    let signal = setting(SERVICE, "Service.KillSignal");
    assert_eq!([signal], *signals_of("quit"));
    // To the master alone, which tells its workers; the rest at the timeout.
    assert_eq!(setting(SERVICE, "Service.KillMode"), "mixed");
}

#[test]
fn systemd_is_as_patient_as_the_master() {
    let start = setting(SERVICE, "Service.ExecStart");
    let config = in_force(&words_of(&start), SHIPPED);
    let timeouts = &config.timeouts;
    let going_ms = u64::from(timeouts.drain_ms) + u64::from(timeouts.stop_ms) + GRACE_MS;
    assert!(milliseconds("Service.TimeoutStopSec") > going_ms);
    let ready_ms = u64::from(config.process.ready_ms);
    assert!(milliseconds("Service.TimeoutStartSec") > ready_ms);
}

#[test]
fn limits_hold_what_is_configured() {
    let files: u64 = setting(SERVICE, "Service.LimitNOFILE").parse().unwrap();
    let start = setting(SERVICE, "Service.ExecStart");
    let config = in_force(&words_of(&start), SHIPPED);
    // Of eight shards, at least.
    assert!(files > 8 * u64::from(config.limits.connections));
    assert!(crate::host::kernel_setting("fs.nr_open") >= files);
    assert_eq!(setting(SERVICE, "Service.LimitMEMLOCK"), "infinity");
}

#[test]
fn the_socket_is_that_of_the_configuration() {
    let unit = "deploy/corelane.socket";
    let start = setting(SERVICE, "Service.ExecStart");
    let config = in_force(&words_of(&start), SHIPPED);
    let ports: Vec<String> = config
        .server
        .listen
        .iter()
        .map(|address| address.port().to_string())
        .collect();
    assert_eq!([setting(unit, "Socket.ListenStream")], *ports);
    let backlog = config.server.backlog.to_string();
    assert_eq!(setting(unit, "Socket.Backlog"), backlog);
}
