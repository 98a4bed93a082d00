//! Looking, at hosts that are made up: folders with the files that one would have.

use std::fs;
use std::os::unix::fs::symlink;

use super::super::facts::{Card, CgroupVersion, Holder, Interrupt, Quota, QuotaFile};
use super::super::made_up::config;
use super::*;

/// A root with these files in it.
fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

/// A link in a root, made with the folder that it is in.
fn link(root: &tempfile::TempDir, path: &str, target: &str) {
    let path = root.path().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    symlink(target, path).unwrap();
}

fn asked() -> Asked {
    Asked {
        seen: host::Seen {
            kernel: "6.12.3".to_owned(),
            disabled: Some(0),
            filtered: false,
            ring: None,
            memlock_bytes: 8 << 20,
            files: 1024,
        },
        allowed: vec![0, 1],
        parallelism: 2,
        placement: Ok(vec![Some(0), Some(1)]),
        listening: Vec::new(),
        has_admin: false,
        process: facts::Process::default(),
        groups: None,
        host_name: "4f2c".to_owned(),
    }
}

#[test]
fn files_are_read() {
    let cpu = "sys/devices/system/cpu";
    let root = root(&[
        (
            "sys/devices/system/clocksource/clocksource0/current_clocksource",
            "hpet\n",
        ),
        (
            "sys/devices/system/clocksource/clocksource0/available_clocksource",
            "tsc hpet acpi_pm \n",
        ),
        (
            "sys/kernel/mm/transparent_hugepage/enabled",
            "[always] madvise never\n",
        ),
        ("proc/sys/fs/nr_open", "1048576\n"),
        ("proc/sys/net/core/somaxconn", "128\n"),
        ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
        ("proc/sys/net/ipv4/ip_local_reserved_ports", "\n"),
        (
            &format!("{cpu}/cpu0/topology/thread_siblings_list"),
            "0-1\n",
        ),
        (
            &format!("{cpu}/cpu1/cpufreq/scaling_governor"),
            "powersave\n",
        ),
        ("sys/devices/system/node/online", "0-2\n"),
        ("sys/devices/system/node/node0/cpulist", "0,2\n"),
        ("sys/devices/system/node/node1/cpulist", "1,3\n"),
        ("sys/devices/system/node/node2/cpulist", "\n"),
        ("proc/17/comm", "irqbalance\n"),
    ]);
    let facts = look(root.path(), asked(), &config(&["limits.connections=500"]));
    assert_eq!(facts.kernel.clock.as_deref(), Some("hpet"));
    assert_eq!(facts.kernel.clocks, ["tsc", "hpet", "acpi_pm"]);
    assert!(!facts.kernel.registers);
    assert_eq!(facts.memory.huge_pages.as_deref(), Some("always"));
    assert_eq!(
        facts.memory.nodes,
        BTreeMap::from([(0, vec![0, 2]), (1, vec![1, 3])])
    );
    assert_eq!(facts.limits.nr_open, Some(1_048_576));
    assert_eq!(facts.limits.files_wanted, 97 + 2 * (26 + 1 + 500));
    assert_eq!(facts.network.somaxconn, Some(128));
    assert_eq!(facts.network.port_range, Some((32_768, 60_999)));
    assert_eq!(facts.network.reserved_ports, "");
    assert!(facts.network.irqbalance);
    assert_eq!(facts.cpus.siblings, BTreeMap::from([(0, vec![0, 1])]));
    assert_eq!(
        facts.cpus.governors,
        BTreeMap::from([(1, "powersave".to_owned())])
    );
    assert!(facts.lacks.is_empty());
}

#[test]
fn a_host_that_shows_nothing_is_unseen() {
    let nothing = root(&[]);
    let facts = look(nothing.path(), asked(), &config(&[]));
    assert_eq!(facts.cpus.quota, None);
    assert_eq!(facts.kernel.clock, None);
    assert!(facts.memory.nodes.is_empty() && facts.network.cards.is_empty());
    assert_eq!(
        (facts.network.somaxconn, facts.network.port_range),
        (None, None)
    );
}

#[test]
fn lacks_are_those_of_the_start() {
    let nothing = root(&[]);
    let mut without = asked();
    without.seen.files = 40;
    without.seen.memlock_bytes = 0;
    let expected: Vec<String> = host::judge(&without.seen, 2, 1)
        .iter()
        .map(ToString::to_string)
        .collect();
    let facts = look(nothing.path(), without, &config(&[]));
    let found: Vec<&str> = facts
        .lacks
        .iter()
        .map(|lack| lack.sentence.as_str())
        .collect();
    assert_eq!(found, expected);
    let areas: Vec<Area> = facts.lacks.iter().map(|lack| lack.area).collect();
    assert_eq!(areas, [Area::Memlock, Area::Files]);
}

/// Root may have rings where kernel.io_uring_disabled is 1, and is root no more when it makes them.
#[test]
fn the_user_to_be_needs_the_group() {
    let root = root(&[("proc/sys/kernel/io_uring_group", "44\n")]);
    let lacks = |groups: Option<Vec<u32>>, disabled| {
        let mut asked = asked();
        asked.seen.disabled = Some(disabled);
        asked.groups = groups;
        look(root.path(), asked, &config(&[])).lacks.len()
    };
    assert_eq!(lacks(Some(vec![7]), 1), 1);
    assert_eq!(lacks(Some(vec![7, 44]), 1), 0);
    assert_eq!(lacks(Some(vec![7]), 0), 0);
    assert_eq!(lacks(None, 1), 0);
}

#[test]
fn a_quota_of_version_2_is_the_narrowest_on_the_way_up() {
    let root = root(&[
        (
            "proc/self/mountinfo",
            "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
        ),
        ("proc/self/cgroup", "0::/games.slice/corelane.service\n"),
        (
            "sys/fs/cgroup/games.slice/corelane.service/cpu.max",
            "max 100000\n",
        ),
        ("sys/fs/cgroup/games.slice/cpu.max", "150000 100000\n"),
    ]);
    let expected = Quota::Limited {
        quota_us: 150_000,
        period_us: 100_000,
        set_in: QuotaFile {
            path: "/sys/fs/cgroup/games.slice/cpu.max".to_owned(),
            version: CgroupVersion::V2,
            unit: Some("games.slice".to_owned()),
            outside: None,
        },
    };
    assert_eq!(
        look(root.path(), asked(), &config(&[])).cpus.quota,
        Some(expected)
    );
}

#[test]
fn a_quota_of_version_1_may_be_a_containers() {
    let quota = |quota: &str| {
        let folder = "sys/fs/cgroup/cpu,cpuacct";
        let root = root(&[
            (
                "proc/self/mountinfo",
                "30 23 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                 31 23 0:28 /docker/4f2c /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n",
            ),
            (
                "proc/self/cgroup",
                "4:memory:/\n3:cpu,cpuacct:/docker/4f2c\n",
            ),
            (&format!("{folder}/cpu.cfs_quota_us"), quota),
            (&format!("{folder}/cpu.cfs_period_us"), "50000\n"),
        ]);
        look(root.path(), asked(), &config(&[])).cpus.quota
    };
    let expected = Quota::Limited {
        quota_us: 50_000,
        period_us: 50_000,
        set_in: QuotaFile {
            path: "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us".to_owned(),
            version: CgroupVersion::V1,
            unit: None,
            outside: Some("4f2c".to_owned()),
        },
    };
    assert_eq!(quota("50000\n"), Some(expected));
    assert_eq!(quota("-1\n"), Some(Quota::Unlimited));
}

#[test]
fn a_card_has_a_node_and_interrupts() {
    let pci = "sys/devices/pci0000:00/0000:00:03.0";
    let root = root(&[
        (&format!("{pci}/numa_node"), "1\n"),
        (&format!("{pci}/msi_irqs/38"), "msix\n"),
        (&format!("{pci}/msi_irqs/39"), "msix\n"),
        (&format!("{pci}/virtio2/net/eth0/operstate"), "up\n"),
        ("sys/devices/virtual/net/lo/operstate", "unknown\n"),
        (
            "proc/interrupts",
            "           CPU0       CPU1\n 38:          0          0  PCI-MSIX  0-edge  virtio2-config\n \
             39:          0          7  PCI-MSIX  1-edge  virtio2-input.0\n \
             40:          9          0  PCI-MSIX  2-edge  eth0-rx-1\n \
             41:          9          0  PCI-MSIX  2-edge  eth01-rx-1\nNMI:  5  5  Non-maskable\n",
        ),
        ("proc/irq/39/effective_affinity_list", "1\n"),
        ("proc/irq/39/smp_affinity_list", "0-1\n"),
        ("proc/irq/40/effective_affinity_list", "\n"),
        ("proc/irq/40/smp_affinity_list", "0-1\n"),
    ]);
    let virtio = "../../devices/pci0000:00/0000:00:03.0/virtio2";
    link(&root, "sys/class/net/eth0", &format!("{virtio}/net/eth0"));
    link(
        &root,
        "sys/devices/pci0000:00/0000:00:03.0/virtio2/net/eth0/device",
        "../../../virtio2",
    );
    link(&root, "sys/class/net/lo", "../../devices/virtual/net/lo");
    let interrupt = |number, cpus: &[usize]| Interrupt {
        number,
        cpus: cpus.to_vec(),
    };
    let expected = Card {
        name: "eth0".to_owned(),
        node: Some(1),
        interrupts: vec![interrupt(39, &[1]), interrupt(40, &[0, 1])],
    };
    let cards = || look(root.path(), asked(), &config(&[])).network.cards;
    assert_eq!(cards(), [expected]);
    fs::write(
        root.path()
            .join(format!("{pci}/virtio2/net/eth0/operstate")),
        "down\n",
    )
    .unwrap();
    assert_eq!(cards(), []);
}

#[test]
fn who_listens_is_found() {
    let line = |address: &str, state: &str, inode: &str| {
        format!(" 0: {address} 00000000:0000 {state} 0:0 00:0 0  0  0 {inode} 1\n")
    };
    let table = [
        "sl  local_address\n".to_owned(),
        line("0100007F:21FC", "0A", "5"),
        line("0100007F:21FC", "01", "6"),
        line("0100007F:21FD", "0A", "7"),
        line("00000000:21FE", "0A", "8"),
    ];
    let table_of_ipv6 = [
        "sl\n".to_owned(),
        line("00000000000000000000000001000000:21FC", "0A", "9"),
    ];
    let root = root(&[
        ("proc/net/tcp", &table.concat()),
        ("proc/net/tcp6", &table_of_ipv6.concat()),
        ("proc/self/comm", "corelane\n"),
        ("proc/1/comm", "systemd\n"),
        ("proc/20/comm", "corelane\n"),
        ("proc/21/comm", "corelane\n"),
        ("proc/30/comm", "nginx\n"),
    ]);
    let holds = |pid: u32, descriptor: u32, inode: u32| {
        let path = format!("proc/{pid}/fd/{descriptor}");
        link(&root, &path, &format!("socket:[{inode}]"));
    };
    holds(21, 3, 5);
    holds(20, 9, 5);
    holds(30, 3, 6);
    holds(30, 4, 8);
    holds(30, 5, 9);
    let tree = Tree::new(root.path());
    let found = |address: &str| holder::of(&tree, address.parse().unwrap());
    let holder = |pid, name: &str, is_ours| {
        let name = name.to_owned();
        Some(Holder { pid, name, is_ours })
    };
    assert_eq!(found("127.0.0.1:8700"), holder(20, "corelane", true));
    assert_eq!(found("127.0.0.2:8700"), None);
    assert_eq!(found("127.0.0.1:8701"), None, "its process can't be seen");
    assert_eq!(found("127.0.0.1:8702"), holder(30, "nginx", false));
    assert_eq!(found("[::1]:8700"), holder(30, "nginx", false));
    assert_eq!(found("[::2]:8700"), None);
    holds(1, 40, 5);
    assert_eq!(found("127.0.0.1:8700"), holder(1, "systemd", true));
    holds(30, 6, 5);
    assert_eq!(found("0.0.0.0:8700"), holder(30, "nginx", false));
}

#[test]
fn a_pid_file_that_is_ours_does_not_speak_against_a_start() {
    let root = root(&[
        ("proc/self/comm", "corelane\n"),
        ("proc/20/comm", "corelane\n"),
        ("proc/30/comm", "nginx\n"),
    ]);
    let held_by = |pid| {
        let mut asked = asked();
        asked.process.pid_file = Some(PidFileError::Held {
            file: "x.pid".into(),
            pid,
        });
        let process = look(root.path(), asked, &config(&[])).process;
        (
            process.pid_file.is_some(),
            process.pid_file_holder.is_some(),
        )
    };
    assert_eq!(held_by(20), (false, true));
    assert_eq!(held_by(30), (true, false));
    assert_eq!(held_by(40), (true, false));
}

#[test]
fn addresses_collide_if_one_contains_the_other() {
    let both = |one: &str, other: &str| collide(one.parse().unwrap(), other.parse().unwrap());
    assert!(both("127.0.0.1:1", "127.0.0.1:1"));
    assert!(both("0.0.0.0:1", "127.0.0.1:1") && both("[::1]:1", "[::]:1"));
    assert!(!both("127.0.0.2:1", "127.0.0.1:1"));
    assert!(!both("0.0.0.0:1", "0.0.0.0:2"));
    assert!(!both("0.0.0.0:1", "[::]:1"));
    assert!(!both("0.0.0.0:0", "127.0.0.1:0"));
}
