//! The kernel, whether it lets this process have an io_uring, and its clock.

use super::check::{Check, Topic};
use super::facts::{Area, Facts};
use crate::config::Config;

/// Clock sources that are read without a system call, by architecture and hypervisor.
const QUICK_CLOCKS: [&str; 5] = [
    "tsc",
    "kvm-clock",
    "hyperv_clocksource_tsc_page",
    "xen",
    "arch_sys_counter",
];

pub(super) fn judge(facts: &Facts, _config: &Config) -> Vec<Check> {
    vec![release(facts), switch(facts), seccomp(facts), clock(facts)]
}

fn release(facts: &Facts) -> Check {
    let kernel = &facts.kernel;
    let is = format!("Linux {}", kernel.release);
    let mend = "install a newer kernel of your distribution and reboot";
    if facts.lack(Area::Kernel).is_some() {
        Topic::new("kernel", "6.1 or newer").fatal(is, mend)
    } else if kernel.registers {
        Topic::new("kernel", "6.1 or newer").good(is)
    } else {
        let should = "6.13 or newer, which registers sockets";
        Topic::new("kernel", should).advice(is, mend)
    }
}

fn switch(facts: &Facts) -> Check {
    let topic = Topic::new("io_uring", "allowed to this process");
    let disabled = facts.kernel.disabled;
    if facts.lack(Area::Switch).is_some() {
        let value = disabled.unwrap_or_default();
        let is = format!("switched off: io_uring_disabled = {value}");
        return topic.fatal(is, "sysctl -w kernel.io_uring_disabled=0");
    }
    if let Some(sentence) = facts.lack(Area::Ring) {
        // The server's sentence has what is before the colon and what mends it after.
        let (is, mend) = sentence
            .split_once(": ")
            .unwrap_or((sentence, "zgrep IO_URING /proc/config.gz"));
        return topic.fatal(is, mend);
    }
    if facts.lack(Area::Seccomp).is_some() {
        return topic.open("can't be told: seccomp comes first");
    }
    match disabled {
        Some(1) => topic.good("allowed to this user: io_uring_disabled = 1"),
        Some(value) => topic.good(format!("allowed: io_uring_disabled = {value}")),
        None => topic.good("allowed"),
    }
}

fn seccomp(facts: &Facts) -> Check {
    let topic = Topic::new("seccomp", "no filter, or one that lets io_uring pass");
    if facts.lack(Area::Seccomp).is_some() {
        let mend = "docker run --security-opt seccomp=deploy/seccomp.json ...   # in Kubernetes \
                    securityContext.seccompProfile";
        return topic.fatal("a filter forbids io_uring", mend);
    }
    match facts.kernel.filtered {
        false => topic.good("no filter"),
        true if facts.lack(Area::Switch).is_some() || facts.lack(Area::Ring).is_some() => {
            topic.open("a filter; whether it lets io_uring pass, can't be told")
        }
        true => topic.good("a filter that lets io_uring pass"),
    }
}

/// The loop reads the clock once a turn.
fn clock(facts: &Facts) -> Check {
    let topic = Topic::new("clock source", "tsc, or another that takes no system call");
    let Some(clock) = &facts.kernel.clock else {
        return topic.unseen("no clock source");
    };
    if QUICK_CLOCKS.contains(&clock.as_str()) {
        return topic.good(clock);
    }
    let quick = QUICK_CLOCKS
        .iter()
        .find(|quick| facts.kernel.clocks.iter().any(|known| known == *quick));
    let mend = match quick {
        Some(quick) => format!(
            "echo {quick} > /sys/devices/system/clocksource/clocksource0/current_clocksource"
        ),
        None => {
            "dmesg | grep -i -e tsc -e clocksource   # says why the kernel trusts no better one"
                .to_owned()
        }
    };
    topic.advice(format!("{clock}, slow to read"), mend)
}

#[cfg(test)]
mod tests {
    use super::super::check::Verdict::{Advice, Fatal, Good, Unseen};
    use super::super::made_up::{assert_says, config, facts, lack, of};
    use super::*;

    fn checks(spoil: impl Fn(&mut Facts)) -> Vec<Check> {
        let mut facts = facts();
        spoil(&mut facts);
        judge(&facts, &config(&[]))
    }

    #[test]
    fn the_kernel_is_new_enough_or_not() {
        assert_says(of(&checks(|_| ()), "kernel"), Good, "Linux 6.18.1", None);
        let old = checks(|facts| facts.kernel.registers = false);
        assert_eq!(of(&old, "kernel").verdict, Advice);
        assert!(of(&old, "kernel").should.starts_with("6.13 or newer"));
        let too_old = checks(|facts| facts.lacks = vec![lack(Area::Kernel, "too old")]);
        assert_eq!(of(&too_old, "kernel").verdict, Fatal);
        assert_eq!(of(&too_old, "kernel").should, "6.1 or newer");
    }

    #[test]
    fn io_uring_is_allowed_or_switched_off_or_refused() {
        let good = checks(|_| ());
        assert_says(
            of(&good, "io_uring"),
            Good,
            "allowed: io_uring_disabled = 0",
            None,
        );
        let group = checks(|facts| facts.kernel.disabled = Some(1));
        assert_says(
            of(&group, "io_uring"),
            Good,
            "allowed to this user: io_uring_disabled = 1",
            None,
        );
        let off = checks(|facts| {
            facts.kernel.disabled = Some(2);
            facts.lacks = vec![lack(Area::Switch, "switched off")];
        });
        let mend = Some("sysctl -w kernel.io_uring_disabled=0");
        assert_says(
            of(&off, "io_uring"),
            Fatal,
            "switched off: io_uring_disabled = 2",
            mend,
        );
        let refused = checks(|facts| facts.lacks = vec![lack(Area::Ring, "not built: build it")]);
        assert_says(
            of(&refused, "io_uring"),
            Fatal,
            "not built",
            Some("build it"),
        );
    }

    #[test]
    fn a_filter_lets_io_uring_pass_or_not() {
        let filter = |area: Option<Area>| {
            checks(move |facts| {
                facts.kernel.filtered = true;
                facts.lacks = area.map(|area| lack(area, "x")).into_iter().collect();
            })
        };
        assert_says(of(&checks(|_| ()), "seccomp"), Good, "no filter", None);
        assert_says(
            of(&filter(None), "seccomp"),
            Good,
            "a filter that lets io_uring pass",
            None,
        );
        let forbidden = filter(Some(Area::Seccomp));
        assert_eq!(of(&forbidden, "seccomp").verdict, Fatal);
        assert_eq!(of(&forbidden, "io_uring").verdict, Unseen);
        assert_eq!(of(&filter(Some(Area::Switch)), "seccomp").verdict, Unseen);
    }

    #[test]
    fn a_slow_clock_is_exchanged_for_a_quick_one() {
        assert_says(of(&checks(|_| ()), "clock source"), Good, "tsc", None);
        let slow = checks(|facts| facts.kernel.clock = Some("hpet".to_owned()));
        let mend = "echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource";
        assert_says(
            of(&slow, "clock source"),
            Advice,
            "hpet, slow to read",
            Some(mend),
        );
        let distrusted = checks(|facts| {
            facts.kernel.clock = Some("hpet".to_owned());
            facts.kernel.clocks = vec!["hpet".to_owned()];
        });
        let mend = of(&distrusted, "clock source").mend.as_deref().unwrap();
        assert!(mend.starts_with("dmesg"), "{mend}");
        assert_eq!(
            of(&checks(|facts| facts.kernel.clock = None), "clock source").verdict,
            Unseen
        );
    }
}
