//! What the process around the shards needs: a user to become, and files to write.

use std::io::ErrorKind;
use std::path::Path;

use super::check::{Check, Topic};
use super::facts::{Facts, Holder};
use crate::config::Config;
use crate::process::identity::IdentityError;
use crate::process::logging::LogError;
use crate::process::pid_file::PidFileError;

/// Nothing is said of what the configuration does not ask for.
pub(super) fn judge(facts: &Facts, config: &Config) -> Vec<Check> {
    let checks = [
        user(facts, config),
        log_file(facts, config),
        pid_file(facts, config),
    ];
    checks.into_iter().flatten().collect()
}

fn user(facts: &Facts, config: &Config) -> Option<Check> {
    let user = config.process.user()?;
    let topic = Topic::new("user", "one that the server can become");
    Some(match &facts.process.user {
        None => topic.good(user),
        Some(IdentityError::Unknown { user }) => topic.fatal(
            format!("no user {user}"),
            format!("useradd --system --no-create-home {user}"),
        ),
        Some(IdentityError::Refused { user, .. }) => topic.fatal(
            format!("only root can become {user}"),
            "sudo corelane   # becomes that user itself",
        ),
        Some(error) => topic.fatal(error.to_string(), format!("getent passwd {user}")),
    })
}

fn log_file(facts: &Facts, config: &Config) -> Option<Check> {
    let file = config.log.file()?;
    let topic = Topic::new("log file", "one that can be written");
    Some(match &facts.process.log_file {
        None => topic.good(file.display().to_string()),
        Some(LogError::File { error, .. }) => unwritable(topic, file, error.kind()),
        Some(error) => topic.fatal(error.to_string(), "corelane check   # says what is wrong"),
    })
}

fn pid_file(facts: &Facts, config: &Config) -> Option<Check> {
    let file = config.process.pid_file()?;
    let topic = Topic::new("pid file", "one that can be written, and nobody's");
    if let Some(Holder { pid, name, .. }) = &facts.process.pid_file_holder {
        return Some(topic.good(format!("{name} holds it already, process {pid}")));
    }
    Some(match &facts.process.pid_file {
        None => topic.good(file.display().to_string()),
        Some(PidFileError::Unwritable { error, .. }) => unwritable(topic, file, error.kind()),
        Some(PidFileError::Held { pid, .. }) => topic.fatal(
            format!("process {pid} holds it"),
            format!("ps -fp {pid}   # says who; stop it or set another process.pid_file"),
        ),
        Some(error) => topic.fatal(error.to_string(), format!("cat '{}'", file.display())),
    })
}

fn unwritable(topic: Topic, file: &Path, problem: ErrorKind) -> Check {
    let folder = file.parent().unwrap_or(file).display();
    let file = file.display();
    match problem {
        ErrorKind::NotFound => topic.fatal(
            format!("there is no folder {folder}"),
            format!("mkdir -p '{folder}'"),
        ),
        ErrorKind::PermissionDenied => topic.fatal(
            format!("{file} must not be written"),
            format!(
                "ls -ld '{folder}'   # says who may; give the server a folder of its own, as with \
                 install -d -o USER /run/corelane"
            ),
        ),
        ErrorKind::IsADirectory => topic.fatal(
            format!("{file} is a folder"),
            "name a file in it in the configuration",
        ),
        other => topic.fatal(format!("{file}: {other}"), format!("findmnt -T '{folder}'")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Verdict::{Fatal, Good};
    use super::super::made_up::{assert_says, config, facts, of};
    use super::*;

    fn checks(settings: &[&str], spoil: impl FnOnce(&mut Facts)) -> Vec<Check> {
        let mut facts = facts();
        spoil(&mut facts);
        judge(&facts, &config(settings))
    }

    #[test]
    fn what_is_not_asked_for_is_not_judged() {
        assert_eq!(checks(&[], |_| ()), []);
    }

    #[test]
    fn a_user_is_judged_where_one_is_named() {
        let user = ["process.user=corelane"];
        assert_says(of(&checks(&user, |_| ()), "user"), Good, "corelane", None);
        let none = checks(&user, |facts| {
            facts.process.user = Some(IdentityError::Unknown {
                user: "corelane".to_owned(),
            });
        });
        let mend = Some("useradd --system --no-create-home corelane");
        assert_says(of(&none, "user"), Fatal, "no user corelane", mend);
        let refused = checks(&user, |facts| {
            facts.process.user = Some(IdentityError::Refused {
                user: "corelane".to_owned(),
                error: ErrorKind::PermissionDenied.into(),
            });
        });
        let mend = Some("sudo corelane   # becomes that user itself");
        assert_says(
            of(&refused, "user"),
            Fatal,
            "only root can become corelane",
            mend,
        );
    }

    fn log_file_with(problem: Option<ErrorKind>) -> Check {
        let checks = checks(&["log.file=/var/log/x/y.log"], |facts| {
            facts.process.log_file = problem.map(|kind| LogError::File {
                file: "/var/log/x/y.log".into(),
                error: kind.into(),
            });
        });
        of(&checks, "log file").clone()
    }

    #[test]
    fn a_file_can_be_written_or_not() {
        assert_says(&log_file_with(None), Good, "/var/log/x/y.log", None);
        for (problem, is, mend) in [
            (
                ErrorKind::NotFound,
                "there is no folder /var/log/x",
                "mkdir -p '/var/log/x'",
            ),
            (
                ErrorKind::PermissionDenied,
                "/var/log/x/y.log must not be written",
                "ls -ld '/var/log/x'   # says who may; give the server a folder of its own, as with \
                 install -d -o USER /run/corelane",
            ),
            (
                ErrorKind::IsADirectory,
                "/var/log/x/y.log is a folder",
                "name a file in it in the configuration",
            ),
            (
                ErrorKind::ReadOnlyFilesystem,
                "/var/log/x/y.log: read-only filesystem or storage medium",
                "findmnt -T '/var/log/x'",
            ),
        ] {
            assert_says(&log_file_with(Some(problem)), Fatal, is, Some(mend));
        }
    }

    #[test]
    fn a_pid_file_is_nobodys_or_ours_or_anothers() {
        let with = |spoil: fn(&mut Facts)| checks(&["process.pid_file=/run/x.pid"], spoil);
        assert_says(of(&with(|_| ()), "pid file"), Good, "/run/x.pid", None);
        let ours = with(|facts| {
            facts.process.pid_file_holder = Some(Holder {
                pid: 7,
                name: "corelane".to_owned(),
                is_ours: true,
            });
        });
        let is = "corelane holds it already, process 7";
        assert_says(of(&ours, "pid file"), Good, is, None);
        let anothers = with(|facts| {
            facts.process.pid_file = Some(PidFileError::Held {
                file: "/run/x.pid".into(),
                pid: 7,
            });
        });
        let mend = "ps -fp 7   # says who; stop it or set another process.pid_file";
        assert_says(
            of(&anothers, "pid file"),
            Fatal,
            "process 7 holds it",
            Some(mend),
        );
        let unwritable = with(|facts| {
            facts.process.pid_file = Some(PidFileError::Unwritable {
                file: "/run/x.pid".into(),
                error: ErrorKind::NotFound.into(),
            });
        });
        let mend = Some("mkdir -p '/run'");
        assert_says(
            of(&unwritable, "pid file"),
            Fatal,
            "there is no folder /run",
            mend,
        );
    }
}
