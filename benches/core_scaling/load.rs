//! The load generator as a process, and what it prints.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use corelane::load::{Record, ServerUsage};

use super::support::{Failure, OrFailed as _};

/// A sound run: every reply was right, and what the server used is known.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) record: Record,
    pub(crate) server: ServerUsage,
}

const UNREAD: &str = "what `corelane load` wrote could not be read";

/// The load generator while it runs. It is ended with its handle.
pub(crate) struct Program {
    child: Child,
    // Read while it runs, so that it never waits for a full pipe.
    output: Receiver<String>,
    complaints: Receiver<String>,
}

/// What a program left behind.
struct Ended {
    right: bool,
    output: String,
    complaints: String,
}

impl Program {
    pub(crate) fn start(mut command: Command) -> Result<Program, Failure> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .or_failed("`corelane load` does not start")?;
        let (output, complaints) = (child.stdout.take(), child.stderr.take());
        Ok(Program {
            child,
            output: read(output),
            complaints: read(complaints),
        })
    }

    /// Waits for its end, so long at most.
    pub(crate) fn wait(mut self, within: Duration) -> Result<Run, Failure> {
        let deadline = Instant::now() + within;
        let status = loop {
            if let Some(status) = self
                .child
                .try_wait()
                .or_failed("wait for `corelane load`")?
            {
                break status;
            }
            if Instant::now() >= deadline {
                return Err(Failure::Running(format!(
                    "`corelane load` did not end within {} s",
                    within.as_secs()
                )));
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        judge(&Ended {
            right: status.success(),
            output: self.output.recv().or_failed(UNREAD)?,
            complaints: self.complaints.recv().or_failed(UNREAD)?,
        })
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads to the end, beside what else is done.
fn read(from: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (told, text) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut from) = from {
            // What came before an error counts: whether it is enough, its reader finds out.
            let _ = from.read_to_end(&mut bytes);
        }
        // Nobody waits any more if the load was given up.
        let _ = told.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    text
}

fn judge(ended: &Ended) -> Result<Run, Failure> {
    let record: Record = serde_json::from_str(&ended.output).map_err(|error| {
        let told = match ended.complaints.trim() {
            "" => format!("did not print the JSON of a run: {error}"),
            complaints => format!("failed: {complaints}"),
        };
        Failure::Running(format!("`corelane load` {told}"))
    })?;
    let summary = &record.summary;
    if !ended.right || summary.messages == 0 {
        let first = summary.first_error.as_deref();
        return Err(Failure::Running(format!(
            "`corelane load` found replies that were wrong or missing: {}",
            first.unwrap_or("no request was answered")
        )));
    }
    let server = summary.server.clone().ok_or_else(|| {
        Failure::Running("`corelane load` did not say what the server used".to_owned())
    })?;
    if server.cpu_seconds <= 0.0 {
        return Err(Failure::Running(
            "by the kernel's books the server used no CPU time; measure for longer with --seconds"
                .to_owned(),
        ));
    }
    Ok(Run { record, server })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A run as `corelane load --json` prints it.
    pub(crate) fn document(messages: u64, server: &str) -> String {
        let latency = r#"{"p50": 150.5, "p90": 200, "p99": 322, "p99.9": 400, "p99.99": 450,
            "max": 500.25, "mean": 155, "standard_deviation": 30}"#;
        format!(
            r#"{{"format": "corelane-load/1", "version": "0.1.0",
            "began_at": "2026-11-25T15:00:00Z",
            "settings": {{"address": "127.0.0.1:8700", "code": 1, "connections": 128,
                "pipeline": 1, "rate": null, "body_bytes": 32, "duration_seconds": 2,
                "warmup_seconds": 0.5, "timeout_seconds": 5, "threads": 2, "cpus": [0, 1]}},
            "host": {{"name": "here", "kernel": "Linux 6.12 x86_64", "cpu_model": "any",
                "cpus_online": 2, "cpus_allowed": 2}},
            "messages": {messages}, "seconds": 2, "messages_per_second": 100000,
            "bytes_per_second": 8000000, "latency_us": {latency},
            "errors": {{"wrong": 0}}, "first_error": "a body differs", "interrupted": false,
            "sent_in_time": null, "load_cpu_us_per_message": 5, "load_waited_seconds": null, "server": {server},
            "distribution": [{{"quantile": 0.5, "us": 150.5, "count": 100000}},
                {{"quantile": 1, "us": 500.25, "count": 200000}}], "timeline": []}}"#
        )
    }

    pub(crate) const SERVER: &str = r#"{"cpu_seconds": 1.8, "cpu_us_per_message": 9.0,
        "waited_seconds": null, "resident_bytes": 1000000}"#;

    pub(crate) fn read(right: bool, output: &str, complaints: &str) -> Result<Run, String> {
        let ended = Ended {
            right,
            output: output.to_owned(),
            complaints: complaints.to_owned(),
        };
        judge(&ended).map_err(|failure| match failure {
            Failure::Words(sentence) | Failure::Running(sentence) => sentence,
        })
    }

    #[test]
    fn a_run_is_read() {
        let run = read(true, &document(200_000, SERVER), "").unwrap();
        assert_eq!(run.record.summary.messages, 200_000);
        assert_eq!(run.server.waited_seconds, None);
    }

    #[test]
    fn what_is_no_sound_run_is_refused() {
        let refused =
            |right, output: &str, complaints| read(right, output, complaints).unwrap_err();
        let sound = document(200_000, SERVER);
        let wrong = refused(false, &sound, "");
        assert!(
            wrong.ends_with("wrong or missing: a body differs"),
            "{wrong}"
        );
        let none = refused(true, &document(0, SERVER), "");
        assert!(none.contains("wrong or missing"), "{none}");
        let unasked = refused(true, &document(1, "null"), "");
        assert!(unasked.contains("what the server used"), "{unasked}");
        let idle = document(1, &SERVER.replace("1.8", "0"));
        assert!(refused(true, &idle, "").contains("no CPU time"));
        let failed = refused(false, "", "corelane: no server listens there\n");
        assert_eq!(
            failed,
            "`corelane load` failed: corelane: no server listens there"
        );
        let other = refused(true, "[]", "");
        assert!(other.contains("did not print the JSON of a run"), "{other}");
    }
}
