//! Whether the machine has the memory that the start asks for. Told before any of it is touched, because the kernel
//! grants more than it has (`vm.overcommit_memory` 0 and 1): what it cannot back then ends the daemon by the OOM killer.

use std::fmt;
use std::fs::read_to_string;
use std::path::Path;

const MIB: u64 = 1 << 20;
/// What the EAL, the control thread and the counters of a worker take at most, beside what is asked for by name.
const PROCESS: u64 = 64 * MIB;
const WORKER: u64 = 8 * MIB;

/// What a configuration has the daemon reserve in ordinary memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Needs {
    pub workers: usize,
    /// `[limits] connections`.
    pub connections: usize,
    /// The bytes of a connection, its share of the index included.
    pub connection_bytes: usize,
    /// So many tables there will be at once: two at the next restart, where connections are kept.
    pub tables: usize,
    /// The bytes of what is remembered of datagrams in fragments.
    pub fragments: usize,
    /// The bytes of the mempools; 0 where they are in hugepages.
    pub mempools: usize,
}

/// Ordinary memory that can still be had without swapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Available {
    pub bytes: u64,
    /// What says so, for a person.
    pub source: String,
}

/// The machine has less memory than the configuration asks for.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Shortage(String);

impl Needs {
    /// # Errors
    /// If less is available. Where the kernel does not say how much there is, everything passes.
    pub(super) fn check(&self, available: Option<&Available>) -> Result<(), Shortage> {
        let Some(available) = available else {
            return Ok(());
        };
        let besides =
            (self.mempools + self.fragments) as u64 + PROCESS + WORKER * self.workers as u64;
        let connection = (self.connection_bytes * self.tables) as u64;
        let tables = self.connections as u64 * connection;
        let Some(left) = available.bytes.checked_sub(besides) else {
            return Err(Shortage(format!(
                "the mempools and counters of {} workers need {} MiB of memory, and {available}: use fewer [dpdk] \
                 workers or queues, or lower [dpdk] mbufs or [limits] waiting_fragments",
                self.workers,
                besides.div_ceil(MIB)
            )));
        };
        if tables <= left {
            return Ok(());
        }
        Err(Shortage(format!(
            "[limits] connections = {}: the connection tables need {} MiB of memory, {} MiB are needed besides, and \
             {available}: lower `connections` to {} at most",
            self.connections,
            tables.div_ceil(MIB),
            besides.div_ceil(MIB),
            left / connection
        )))
    }
}

impl fmt::Display for Available {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB are free ({})", self.bytes / MIB, self.source)
    }
}

impl Available {
    /// What this process may still have: of the machine, and of each control group that it is in.
    pub(super) fn now() -> Option<Available> {
        Self::read(Path::new("/"))
    }

    /// `root`: where `proc` and `sys` are.
    fn read(root: &Path) -> Option<Available> {
        let machine = read_to_string(root.join("proc/meminfo")).ok();
        let machine = machine.and_then(|text| value(&text, "MemAvailable:"));
        let machine = machine.map(|kib| Available {
            bytes: kib * 1024,
            source: "MemAvailable in /proc/meminfo".to_owned(),
        });
        let groups = read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
        let groups = groups.lines().flat_map(|line| groups_of(root, line));
        machine
            .into_iter()
            .chain(groups)
            .min_by_key(|available| available.bytes)
    }
}

/// The number behind a word at the beginning of a line.
fn value(text: &str, word: &str) -> Option<u64> {
    let mut lines = text.lines().map(str::split_whitespace);
    let mut line = lines.find(|line| line.clone().next() == Some(word))?;
    line.nth(1)?.parse().ok()
}

/// The limits of the control group in a line of `/proc/self/cgroup`, and of the groups around it. A container may see
/// its own group as the root; directories that are not there limit nothing.
fn groups_of(root: &Path, line: &str) -> Vec<Available> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
        return vec![];
    };
    let (mount, files) = if controllers.is_empty() {
        ("sys/fs/cgroup", &V2)
    } else if controllers.split(',').any(|name| name == "memory") {
        ("sys/fs/cgroup/memory", &V1)
    } else {
        return vec![];
    };
    let mount = root.join(mount);
    let group = mount.join(path.trim_start_matches('/'));
    let around = group.ancestors().take_while(|at| at.starts_with(&mount));
    around.filter_map(|at| files.room(at)).collect()
}

/// What the files of a control group are called.
struct Files {
    max: &'static str,
    current: &'static str,
    /// Pages of files, which the kernel gives up: in `memory.stat`.
    cache: [&'static str; 2],
}

/// kernel: Documentation/admin-guide/cgroup-v2.rst.
const V2: Files = Files {
    max: "memory.max",
    current: "memory.current",
    cache: ["inactive_file", "active_file"],
};

/// kernel: Documentation/admin-guide/cgroup-v1/memory.rst.
const V1: Files = Files {
    max: "memory.limit_in_bytes",
    current: "memory.usage_in_bytes",
    cache: ["total_inactive_file", "total_active_file"],
};

impl Files {
    /// None where the group has no limit.
    fn room(&self, group: &Path) -> Option<Available> {
        let number = |file: &str| -> Option<u64> {
            let text = read_to_string(group.join(file)).ok()?;
            // Without a limit: "max".
            text.trim().parse().ok()
        };
        let (max, current) = (number(self.max)?, number(self.current)?);
        let stat = read_to_string(group.join("memory.stat")).unwrap_or_default();
        let cache = self.cache.iter().filter_map(|key| value(&stat, key));
        let used = current.saturating_sub(cache.sum());
        Some(Available {
            bytes: max.saturating_sub(used),
            source: format!("{} of {}", self.max, group.display()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine whose files say this.
    fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Option<Available>) {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let available = Available::read(root.path());
        (root, available)
    }

    const MEMINFO: (&str, &str) = (
        "proc/meminfo",
        "MemTotal:  100000 kB\nMemFree:    9 kB\nMemAvailable:   50000 kB\n",
    );

    #[test]
    fn the_narrowest_limit_is_what_is_available() {
        let bytes = |files: &[(&str, &str)]| machine(files).1.map(|available| available.bytes);
        assert_eq!(bytes(&[]), None);
        assert_eq!(bytes(&[MEMINFO]), Some(50_000 * 1024));
        let stat = "anon 7\ninactive_file 30\nactive_file 20\n";
        let group = |max| {
            [
                MEMINFO,
                ("proc/self/cgroup", "0::/system.slice/weir.service\n"),
                ("sys/fs/cgroup/system.slice/weir.service/memory.max", max),
                (
                    "sys/fs/cgroup/system.slice/weir.service/memory.current",
                    "150\n",
                ),
                ("sys/fs/cgroup/system.slice/weir.service/memory.stat", stat),
            ]
        };
        assert_eq!(bytes(&group("max\n")), Some(50_000 * 1024));
        assert_eq!(bytes(&group("1000\n")), Some(900));
        assert_eq!(bytes(&group("120\n")), Some(20));
        assert_eq!(bytes(&group("90\n")), Some(0), "over its limit");
        // A limit of a group around it, and of a container that sees another path than the host.
        for path in ["0::/a/b\n", "0::/a\n", "0::/elsewhere/b\n"] {
            let files = [
                ("proc/self/cgroup", path),
                ("sys/fs/cgroup/memory.max", "5000"),
                ("sys/fs/cgroup/memory.current", "1000"),
                ("sys/fs/cgroup/a/memory.max", "3000"),
                ("sys/fs/cgroup/a/memory.current", "1000"),
            ];
            let expected = if path.contains("/a") { 2000 } else { 4000 };
            assert_eq!(bytes(&files), Some(expected), "{path}");
        }
        let (root, available) = machine(&[
            MEMINFO,
            ("proc/self/cgroup", "5:cpu,memory:/x\n4:pids:/x\n"),
            ("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "7000"),
            ("sys/fs/cgroup/memory/x/memory.usage_in_bytes", "3000"),
            (
                "sys/fs/cgroup/memory/x/memory.stat",
                "total_active_file 500\n",
            ),
        ]);
        let group = root.path().join("sys/fs/cgroup/memory/x");
        let expected = Available {
            bytes: 4500,
            source: format!("memory.limit_in_bytes of {}", group.display()),
        };
        assert_eq!(available, Some(expected));
    }

    #[test]
    fn a_shortage_says_what_was_asked_for_what_there_is_and_which_key_to_lower() {
        let needs = |connections, mempools| Needs {
            workers: 2,
            connections,
            connection_bytes: 96,
            tables: 1,
            fragments: 0,
            mempools,
        };
        let available = Available {
            bytes: 1000 * MIB,
            source: "MemAvailable in /proc/meminfo".to_owned(),
        };
        let besides = PROCESS + 2 * WORKER;
        let most = ((1000 * MIB - besides) / 96) as usize;
        assert!(needs(most, 0).check(Some(&available)).is_ok());
        assert!(needs(most * 10, 0).check(None).is_ok());
        let refused = |needs: Needs| needs.check(Some(&available)).unwrap_err().to_string();
        assert_eq!(
            refused(needs(1 << 24, 100 << 20)),
            "[limits] connections = 16777216: the connection tables need 1536 MiB of memory, 180 MiB are needed \
             besides, and 1000 MiB are free (MemAvailable in /proc/meminfo): lower `connections` to 8956586 at most"
        );
        assert!(refused(needs(most + 1, 0)).contains(&format!("to {most} at most")));
        let text = refused(needs(1, 2000 << 20));
        assert!(
            text.contains("need 2080 MiB of memory") && text.contains("lower [dpdk] mbufs"),
            "{text}"
        );
    }

    #[test]
    fn this_machine_says_what_it_has() {
        let available = Available::now().unwrap();
        assert!(available.bytes > MIB, "{available}");
    }
}
