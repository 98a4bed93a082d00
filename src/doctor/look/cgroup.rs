//! The CPU quota of this process's cgroup and of those above it, of which the narrowest counts.

use super::super::facts::{CgroupVersion, Quota, QuotaFile};
use super::tree::Tree;

/// `None` where no cgroup can be seen.
pub(super) fn quota(tree: &Tree, host_name: &str) -> Option<Quota> {
    let found: Vec<Quota> = [CgroupVersion::V2, CgroupVersion::V1]
        .into_iter()
        .filter_map(|version| of_hierarchy(tree, version, host_name))
        .collect();
    let narrowest = found.iter().min_by_key(|quota| millicpus(quota))?;
    Some(narrowest.clone())
}

fn millicpus(quota: &Quota) -> u64 {
    match quota {
        Quota::Unlimited => u64::MAX,
        Quota::Limited {
            quota_us,
            period_us,
            ..
        } => quota_us.saturating_mul(1000) / (*period_us).max(1),
    }
}

/// Where a hierarchy is mounted, and where in it this process is, from there.
struct Place {
    mounted_at: String,
    inside: String,
}

fn of_hierarchy(tree: &Tree, version: CgroupVersion, host_name: &str) -> Option<Quota> {
    let Place { mounted_at, inside } = place(tree, version)?;
    let mut found = Quota::Unlimited;
    let mut inside = inside.trim_end_matches('/');
    loop {
        let folder = format!("{mounted_at}{inside}");
        if let Some((quota_us, period_us, path)) = limit(tree, version, &folder) {
            let name = inside.rsplit('/').next().unwrap_or_default();
            let is_unit = [".service", ".scope", ".slice"]
                .iter()
                .any(|kind| name.ends_with(kind));
            let limited = Quota::Limited {
                quota_us,
                period_us,
                set_in: QuotaFile {
                    path,
                    version,
                    unit: is_unit.then(|| name.to_owned()),
                    // No host limits its topmost group: it is that of a container.
                    outside: inside.is_empty().then(|| host_name.to_owned()),
                },
            };
            if millicpus(&limited) < millicpus(&found) {
                found = limited;
            }
        }
        match inside.rsplit_once('/') {
            Some((above, _)) => inside = above,
            None => return Some(found),
        }
    }
}

/// Quota and period of one group, in microseconds, and the file that sets the quota.
fn limit(tree: &Tree, version: CgroupVersion, folder: &str) -> Option<(u64, u64, String)> {
    match version {
        CgroupVersion::V2 => {
            let file = format!("{folder}/cpu.max");
            let text = tree.word(&file)?;
            let (quota, period) = text.split_once(' ')?;
            Some((quota.parse().ok()?, period.parse().ok()?, file))
        }
        CgroupVersion::V1 => {
            let file = format!("{folder}/cpu.cfs_quota_us");
            // -1, which is no number here, is no limit.
            let quota = tree.number(&file)?;
            Some((
                quota,
                tree.number(&format!("{folder}/cpu.cfs_period_us"))?,
                file,
            ))
        }
    }
}

fn place(tree: &Tree, version: CgroupVersion) -> Option<Place> {
    let (mounted_root, mounted_at) = mount(&tree.text("proc/self/mountinfo")?, version)?;
    let group = group(&tree.text("proc/self/cgroup")?, version)?;
    // In a container the mount may begin at the container's own group.
    let inside = match group.strip_prefix(mounted_root.trim_end_matches('/')) {
        Some(inside) if inside.is_empty() || inside.starts_with('/') => inside,
        _ => "",
    };
    Some(Place {
        mounted_at,
        inside: inside.to_owned(),
    })
}

/// Which group is mounted, and where.
fn mount(mountinfo: &str, version: CgroupVersion) -> Option<(String, String)> {
    mountinfo.lines().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut of_mount = mount.split(' ').skip(3);
        let mut of_system = file_system.split(' ');
        let kind = of_system.next()?;
        let is_it = match version {
            CgroupVersion::V2 => kind == "cgroup2",
            CgroupVersion::V1 => {
                kind == "cgroup" && of_system.nth(1)?.split(',').any(|option| option == "cpu")
            }
        };
        let (root, point) = (of_mount.next()?, of_mount.next()?);
        is_it.then(|| (root.to_owned(), point.trim_end_matches('/').to_owned()))
    })
}

/// The group of this process in a hierarchy.
fn group(cgroup: &str, version: CgroupVersion) -> Option<String> {
    cgroup.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let is_it = match version {
            CgroupVersion::V2 => controllers.is_empty(),
            CgroupVersion::V1 => controllers.split(',').any(|controller| controller == "cpu"),
        };
        is_it.then(|| path.to_owned())
    })
}
