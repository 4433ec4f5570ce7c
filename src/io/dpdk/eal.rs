//! The EAL: lcores, memory and buses. Starts once in a process and ends with it.

use super::{Error, error, log, unplug};
use crate::config::{Hugepages, pci_devices};
use crate::io::pci::Dma;
use crate::units::WorkerId;
use std::ffi::{CStr, CString, OsStr};
use std::marker::PhantomData;
use std::os::raw::{c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// What the EAL needs for itself, in MB, beside the pools.
pub const EAL_MEMORY_MB: usize = 64;

/// How to start the EAL.
#[derive(Clone, Copy, Debug)]
pub struct EalConfig<'a> {
    /// The CPU of each worker, in the order of their [`WorkerId`].
    pub workers: &'a [usize],
    /// The CPU of the control thread; may be a worker's as well (on a machine of one CPU).
    pub main_lcore: usize,
    /// As [`choose_hugepages`] chose.
    pub hugepages: bool,
    /// What the mempools will take, in MB: see [`MbufPool::bytes`](super::MbufPool::bytes).
    pub memory_mb: usize,
    /// The ports' device strings: the PCI addresses among them are what the EAL may touch of the PCI bus.
    pub devices: &'a [&'a str],
    /// Handed to the EAL as they are, last.
    pub extra_args: &'a [String],
    /// Sets this process's names apart from those of other DPDK processes.
    pub file_prefix: &'a str,
}

/// Proof that the EAL runs, held by the thread that started it: only that one may launch lcores.
///
/// Nothing stops the EAL again. It keeps no files, and its threads end with the process; stopping it
/// earlier would pull the memory away from under every mbuf.
#[derive(Debug)]
pub struct Eal {
    workers: usize,
    hugepages: bool,
    not_send: PhantomData<*const ()>,
}

impl Eal {
    /// Starts the EAL: pins this thread to the control CPU and makes a waiting lcore for each worker.
    pub fn init(config: &EalConfig) -> Result<Eal, Error> {
        static STARTED: AtomicBool = AtomicBool::new(false);

        check_cpus(config, &usable_cpus())?;
        if let Some(drivers) = bundled_drivers() {
            check_drivers(Path::new(&drivers))?;
        }
        let args = arguments(config, log::level())
            .into_iter()
            .map(|text| CString::new(text.as_str()).map_err(|_| Error::ZeroByte { text }))
            .collect::<Result<Vec<_>, _>>()?;
        if STARTED.swap(true, Ordering::SeqCst) {
            return Err(Error::EalStartedTwice);
        }
        log::redirect();
        // The EAL keeps pointers to some of its arguments, and shuffles the list: both are given away.
        let argv: Vec<*mut c_char> = args.into_iter().map(CString::into_raw).collect();
        let argv = argv.leak();
        let code = without_stdout(|| {
            // SAFETY: `argv` holds `len` C strings, leaked for the EAL alone: they live until the process ends.
            unsafe { dpdk_sys::rte_eal_init(argv.len() as c_int, argv.as_mut_ptr()) }
        });
        if code < 0 {
            return Err(Error::Eal {
                why: error::last_reason(),
            });
        }
        remove_runtime_directory();
        if config
            .devices
            .iter()
            .any(|device| !pci_devices(device).is_empty())
        {
            unplug::watch();
        }
        Ok(Eal {
            workers: config.workers.len(),
            hugepages: config.hugepages,
            not_send: PhantomData,
        })
    }

    /// How many worker lcores there are.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// Whether DPDK's memory is in hugepages.
    pub fn hugepages(&self) -> bool {
        self.hugepages
    }

    /// The NUMA node of a worker's CPU.
    pub fn worker_socket(&self, worker: WorkerId) -> i32 {
        // SAFETY: takes any number; an unknown lcore is on node 0.
        unsafe { dpdk_sys::rte_lcore_to_socket_id(lcore_of(worker)) as i32 }
    }
}

/// Calls `work` with stdout leading nowhere: the EAL prints a hundred lines of usage there when it does not like an
/// argument. What it has to say besides is in its log.
fn without_stdout<T>(work: impl FnOnce() -> T) -> T {
    unsafe extern "C" {
        /// Of the C library; null: every stream.
        fn fflush(stream: *mut std::ffi::c_void) -> c_int;
    }
    let kept = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3).ok();
    let nowhere = std::fs::OpenOptions::new().write(true).open("/dev/null");
    let (Some(kept), Ok(nowhere)) = (kept, nowhere) else {
        // Without a stdout nothing gets there.
        return work();
    };
    let _ = rustix::stdio::dup2_stdout(&nowhere);
    let done = work();
    // What the C library still holds must not come out afterwards.
    // SAFETY: null is every stream.
    unsafe { fflush(std::ptr::null_mut()) };
    let _ = rustix::stdio::dup2_stdout(&kept);
    done
}

/// Removes the EAL's runtime directory, which it makes and leaves although weir has it keep no files there.
fn remove_runtime_directory() {
    // SAFETY: the EAL runs, so this is a C string that no longer changes.
    let directory = unsafe { CStr::from_ptr(dpdk_sys::rte_eal_get_runtime_dir()) };
    // Where it is not empty, the operator's eal_args put something there: that stays.
    let _ = std::fs::remove_dir(OsStr::from_bytes(directory.to_bytes()));
}

/// The folder of drivers that a bundle (scripts/bundle) brings along: the only ones then.
fn bundled_drivers() -> Option<String> {
    std::env::var("WEIR_DRIVERS").ok()
}

/// The EAL loads no driver from below a folder that every user may write to, and its message does not say what to do.
fn check_drivers(folder: &Path) -> Result<(), Error> {
    let text = |path: &Path| path.display().to_string();
    let Ok(real) = folder.canonicalize() else {
        return Err(Error::NoDrivers {
            folder: text(folder),
        });
    };
    let is_writable = |path: &&Path| {
        let mode = path
            .metadata()
            .map_or(0, |found| found.permissions().mode());
        mode & 0o002 != 0
    };
    // The EAL looks at the path as it is given as well as at what it leads to.
    match folder.ancestors().chain(real.ancestors()).find(is_writable) {
        Some(writable) => Err(Error::InsecureDrivers {
            folder: text(folder),
            writable: text(writable),
        }),
        None => Ok(()),
    }
}

/// The CPUs that this process may run on. To be asked before [`Eal::init`], which pins the calling thread, and
/// whatever threads it makes afterwards, to the control CPU.
pub fn usable_cpus() -> Vec<usize> {
    core_affinity::get_core_ids()
        .unwrap_or_default()
        .into_iter()
        .map(|core| core.id)
        .collect()
}

/// The control thread is lcore 0, worker n is lcore n + 1, whatever their CPUs.
pub(super) fn lcore_of(worker: WorkerId) -> u32 {
    u32::from(worker.0) + 1
}

fn check_cpus(config: &EalConfig, usable: &[usize]) -> Result<(), Error> {
    // Lcore 0 is the control thread's, and a WorkerId has 8 bits.
    let most = (dpdk_sys::RTE_MAX_LCORE as usize - 1).min(usize::from(u8::MAX));
    if config.workers.is_empty() || config.workers.len() > most {
        return Err(Error::WorkerCount {
            workers: config.workers.len(),
            most,
        });
    }
    let list = || {
        usable
            .iter()
            .map(usize::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let known = |cpu| usable.is_empty() || usable.contains(&cpu);
    if !known(config.main_lcore) {
        return Err(Error::NoSuchCpu {
            key: "main_lcore",
            cpu: config.main_lcore,
            usable: list(),
        });
    }
    for &cpu in config.workers {
        if !known(cpu) {
            return Err(Error::NoSuchCpu {
                key: "workers",
                cpu,
                usable: list(),
            });
        }
    }
    Ok(())
}

/// Whether to use hugepages, where the mempools will take `memory_mb` and the devices reach them so. Says so when there
/// are too few.
///
/// # Errors
/// If there are too few, and they are required: by the configuration, or by a device that takes physical addresses.
pub fn choose_hugepages(wanted: Hugepages, memory_mb: usize, dma: Dma) -> Result<bool, Error> {
    let free_mb = free_hugepages_mb(Path::new("/sys/kernel/mm/hugepages"));
    choose_memory(wanted, memory_mb, free_mb, dma)
}

fn choose_memory(
    wanted: Hugepages,
    memory_mb: usize,
    free_mb: usize,
    dma: Dma,
) -> Result<bool, Error> {
    let needed_mb = memory_mb + EAL_MEMORY_MB;
    let enough = free_mb >= needed_mb;
    let pages = needed_mb.div_ceil(2);
    match (wanted, dma) {
        (Hugepages::Never, Dma::Physical) => Err(Error::NeedsHugepages),
        (Hugepages::Never, _) => Ok(false),
        (Hugepages::Auto, Dma::Physical) if !enough => Err(Error::PhysicalHugepages {
            needed_mb,
            free_mb,
            pages,
        }),
        (Hugepages::Require, _) if !enough => Err(Error::TooFewHugepages {
            needed_mb,
            free_mb,
            pages,
        }),
        // An IOMMU makes any memory do.
        (Hugepages::Auto, Dma::Iommu) if !enough => {
            tracing::info!(
                "{free_mb} MB of hugepages are free and {needed_mb} MB are needed: using ordinary memory, which is \
                 slower (sysctl vm.nr_hugepages={pages} reserves them)"
            );
            Ok(false)
        }
        (Hugepages::Auto, Dma::Kernel) if !enough => {
            tracing::warn!(
                "{free_mb} MB of hugepages are free and {needed_mb} MB are needed: using ordinary memory, which is \
                 slower (sysctl vm.nr_hugepages={pages} reserves them)"
            );
            Ok(false)
        }
        (Hugepages::Auto | Hugepages::Require, _) => Ok(true),
    }
}

/// The free hugepages of every size, in MB. `sysfs` has a directory `hugepages-2048kB` and the like.
fn free_hugepages_mb(sysfs: &Path) -> usize {
    let free_kb = |directory: std::fs::DirEntry| -> Option<usize> {
        let name = directory.file_name().into_string().ok()?;
        let size_kb: usize = name
            .strip_prefix("hugepages-")?
            .strip_suffix("kB")?
            .parse()
            .ok()?;
        let free = std::fs::read_to_string(directory.path().join("free_hugepages")).ok()?;
        Some(size_kb * free.trim().parse::<usize>().ok()?)
    };
    let directories = std::fs::read_dir(sysfs).into_iter().flatten().flatten();
    directories.filter_map(free_kb).sum::<usize>() / 1024
}

fn arguments(config: &EalConfig, log_level: &str) -> Vec<String> {
    let lcores: Vec<String> = std::iter::once(&config.main_lcore)
        .chain(config.workers)
        .enumerate()
        .map(|(lcore, cpu)| format!("{lcore}@{cpu}"))
        .collect();
    let mut args = vec!["weir".to_owned(), "--lcores".to_owned(), lcores.join(",")];
    let mut add = |words: &[&str]| args.extend(words.iter().map(|&word| word.to_owned()));
    add(&[
        "--main-lcore",
        "0",
        "--file-prefix",
        config.file_prefix,
        "--no-telemetry",
        "--log-level",
        log_level,
    ]);
    if config.hugepages {
        add(&["--in-memory"]);
    } else {
        // --in-memory says the same and more, but does not go with --no-huge.
        let memory_mb = (config.memory_mb + EAL_MEMORY_MB).to_string();
        add(&["--no-shconf", "--no-huge", "-m", &memory_mb]);
    }
    let pci: Vec<&str> = config
        .devices
        .iter()
        .flat_map(|device| pci_devices(device))
        .collect();
    if pci.is_empty() {
        add(&["--no-pci"]);
    }
    for device in pci {
        add(&["-a", device]);
    }
    if let Some(drivers) = bundled_drivers() {
        args.extend(["-d".to_owned(), drivers]);
    }
    args.extend_from_slice(config.extra_args);
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: EalConfig = EalConfig {
        workers: &[5, 0],
        main_lcore: 0,
        hugepages: true,
        memory_mb: 100,
        devices: &["net_tap0,iface=weir0"],
        extra_args: &[],
        file_prefix: "weir",
    };

    #[test]
    fn each_worker_is_a_lcore_of_its_own_even_on_the_control_cpu() {
        let args = arguments(&CONFIG, "warning").join(" ");
        assert!(
            args.starts_with("weir --lcores 0@0,1@5,2@0 --main-lcore 0 "),
            "{args}"
        );
        assert!(
            args.contains("--in-memory") && !args.contains("--no-huge"),
            "{args}"
        );
    }

    #[test]
    fn ordinary_memory_is_given_a_size() {
        let ordinary = EalConfig {
            hugepages: false,
            ..CONFIG
        };
        let args = arguments(&ordinary, "warning").join(" ");
        assert!(
            args.contains("--no-shconf --no-huge -m 164") && !args.contains("--in-memory"),
            "{args}"
        );
    }

    #[test]
    fn only_the_pci_devices_that_are_ports_are_touched() {
        let extra = ["--iova-mode=va".to_owned()];
        let config = EalConfig {
            devices: &["net_null0", "0000:03:00.1,x=1", "04:00.0"],
            extra_args: &extra,
            ..CONFIG
        };
        let args = arguments(&config, "warning").join(" ");
        assert!(
            args.ends_with("-a 0000:03:00.1,x=1 -a 04:00.0 --iova-mode=va"),
            "{args}"
        );
        assert!(!args.contains("--no-pci"), "{args}");
        let bond = EalConfig {
            devices: &["net_bonding0,mode=4,slave=0000:03:00.0,slave=0000:03:00.1"],
            ..CONFIG
        };
        let args = arguments(&bond, "warning").join(" ");
        assert!(args.ends_with("-a 0000:03:00.0 -a 0000:03:00.1"), "{args}");
        assert!(!args.contains("--no-pci"), "{args}");
        assert!(arguments(&CONFIG, "warning").contains(&"--no-pci".to_owned()));
    }

    #[test]
    fn cpus_that_cannot_be_used_are_refused_by_name() {
        let refused = |config| check_cpus(&config, &[0, 1]).unwrap_err().to_string();
        assert!(refused(CONFIG).starts_with("dpdk.workers: there is no CPU 5"));
        assert!(
            refused(EalConfig {
                main_lcore: 7,
                ..CONFIG
            })
            .starts_with("dpdk.main_lcore: there is no CPU 7")
        );
        assert!(
            refused(EalConfig {
                workers: &[],
                ..CONFIG
            })
            .contains("0 workers")
        );
        assert!(
            check_cpus(
                &EalConfig {
                    workers: &[1, 0],
                    ..CONFIG
                },
                &[0, 1]
            )
            .is_ok()
        );
    }

    #[test]
    fn hugepages_are_used_when_there_are_enough_and_required_where_a_device_needs_them() {
        use Dma::{Iommu, Kernel, Physical};
        use Hugepages::{Auto, Never, Require};
        /// What is wanted, free MB, how devices reach memory; the choice, or what the error names.
        type Case = (Hugepages, usize, Dma, Result<bool, &'static str>);
        let cases: [Case; 11] = [
            (Auto, 164, Kernel, Ok(true)),
            (Auto, 163, Kernel, Ok(false)),
            (Auto, 164, Iommu, Ok(true)),
            (Auto, 163, Iommu, Ok(false)),
            (Auto, 164, Physical, Ok(true)),
            (Auto, 163, Physical, Err("vm.nr_hugepages=82")),
            (Never, 1000, Kernel, Ok(false)),
            (Never, 1000, Iommu, Ok(false)),
            (Never, 1000, Physical, Err("hugepages = \"never\"")),
            (Require, 164, Kernel, Ok(true)),
            (Require, 163, Physical, Err("vm.nr_hugepages=82")),
        ];
        for (wanted, free, dma, expected) in cases {
            let name = format!("{wanted:?} {free} {dma:?}");
            match (choose_memory(wanted, 100, free, dma), expected) {
                (Ok(chosen), Ok(expected)) => assert_eq!(chosen, expected, "{name}"),
                (Err(error), Err(part)) => {
                    assert!(error.to_string().contains(part), "{name}: {error}");
                }
                (found, _) => panic!("{name}: {found:?}"),
            }
        }
    }

    #[test]
    fn a_bundles_drivers_are_where_only_the_operator_writes() {
        check_drivers(Path::new("/usr/lib")).unwrap();
        let top = tempfile::tempdir().unwrap();
        let folder = top.path().join("open/pmds");
        std::fs::create_dir_all(&folder).unwrap();
        let allow = |mode| {
            let open = top.path().join("open");
            std::fs::set_permissions(open, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        // The sticky bit changes nothing for the EAL.
        for mode in [0o777, 0o1777] {
            allow(mode);
            let error = check_drivers(&folder).unwrap_err().to_string();
            assert!(error.contains("open is writable by every user"), "{error}");
        }
        let error = check_drivers(&top.path().join("none")).unwrap_err();
        assert!(error.to_string().contains("no such folder"), "{error}");
    }

    #[test]
    fn free_hugepages_of_every_size_count() {
        let sysfs = tempfile::tempdir().unwrap();
        for (size, free) in [
            ("hugepages-2048kB", "3\n"),
            ("hugepages-1048576kB", "1\n"),
            ("other", "9"),
        ] {
            let directory = sysfs.path().join(size);
            std::fs::create_dir(&directory).unwrap();
            std::fs::write(directory.join("free_hugepages"), free).unwrap();
        }
        assert_eq!(free_hugepages_mb(sysfs.path()), 1030);
        assert_eq!(free_hugepages_mb(&sysfs.path().join("none")), 0);
    }
}
