//! What a host and a container engine are asked for: kernel settings and a seccomp profile.

use std::path::Path;

use serde_json::Value;

use crate::text;

const SYSCTL: &str = "deploy/90-corelane.conf";
const SECCOMP: &str = "deploy/seccomp.json";

/// A line of the sysctl file.
struct Setting {
    key: String,
    value: i64,
    /// Whether a kernel may be without it.
    optional: bool,
    /// Whether the line above is a comment.
    reasoned: bool,
}

fn kernel_settings() -> Vec<Setting> {
    let text = text(SYSCTL);
    let mut above = "";
    let mut settings = Vec::new();
    for line in text.lines() {
        if let Some((key, value)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            settings.push(Setting {
                key: key.trim_start_matches('-').to_owned(),
                value: value.parse().unwrap(),
                optional: key.starts_with('-'),
                reasoned: above.starts_with('#'),
            });
        } else {
            assert!(line.is_empty() || line.starts_with('#'), "{line}");
        }
        above = line;
    }
    settings
}

/// The value of a key of the sysctl file.
pub(crate) fn kernel_setting(key: &str) -> u64 {
    let all = kernel_settings();
    let found = all.iter().find(|setting| setting.key == key);
    found.expect(key).value.try_into().unwrap()
}

#[test]
fn kernel_settings_exist_and_have_their_reasons() {
    let all = kernel_settings();
    assert!(!all.is_empty());
    for Setting {
        key,
        optional,
        reasoned,
        ..
    } in all
    {
        assert!(reasoned, "{key} has no reason");
        let file = Path::new("/proc/sys").join(key.replace('.', "/"));
        assert!(optional || file.exists(), "this kernel has no {key}");
    }
}

#[test]
fn the_backlog_of_the_configuration_is_not_cut() {
    let backlog_max = u64::from(u16::MAX);
    assert_eq!(kernel_setting("net.core.somaxconn"), backlog_max);
    assert!(kernel_setting("net.ipv4.tcp_max_syn_backlog") >= backlog_max);
    // One more is none that can be configured.
    let asked = format!("server.backlog={}", backlog_max + 1);
    crate::program::run(&["check", "--set", &asked]).failed_with(2);
}

/// The rules of the profile that let this call through.
fn rules_for<'a>(profile: &'a Value, call: &str) -> Vec<&'a Value> {
    let rules = profile["syscalls"].as_array().unwrap().iter();
    rules
        .filter(|rule| rule["names"].as_array().unwrap().contains(&call.into()))
        .inspect(|rule| assert_eq!(rule["action"], "SCMP_ACT_ALLOW", "{rule}"))
        .collect()
}

#[test]
fn the_seccomp_profile_lets_io_uring_through() {
    let profile: Value = serde_json::from_str(&text(SECCOMP)).unwrap();
    for call in ["io_uring_setup", "io_uring_enter", "io_uring_register"] {
        let rules = rules_for(&profile, call);
        assert_eq!(rules.len(), 1, "{call}");
        assert!(rules[0].get("args").is_none(), "{call}");
    }
}

/// Stricter than the engines' own: what they keep from containers is kept from this one, too.
#[test]
fn the_seccomp_profile_lets_nothing_out_of_the_container() {
    let profile: Value = serde_json::from_str(&text(SECCOMP)).unwrap();
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    for call in [
        "bpf",
        "clone3",
        "keyctl",
        "mount",
        "perf_event_open",
        "pivot_root",
        "process_vm_readv",
        "ptrace",
        "setns",
        "unshare",
        "userfaultfd",
    ] {
        assert!(rules_for(&profile, call).is_empty(), "{call}");
    }
    for call in ["clone", "socket"] {
        for rule in rules_for(&profile, call) {
            assert!(rule.get("args").is_some(), "{rule}");
        }
    }
}
