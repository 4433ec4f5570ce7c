//! What starts, and why what does not.

use super::*;

#[test]
fn what_does_not_start_says_why() {
    alone("starting::what_does_not_start_says_why", || {
        let eal = eal();
        let refused = |config: &DeviceConfig| {
            let error = Device::attach(&eal, config).unwrap_err().to_string();
            eprintln!("{error}");
            error
        };

        let error = refused(&port(0, "net_nonsense0,x=1"));
        assert!(
            error.starts_with("port \"wan\": the device \"net_nonsense0,x=1\" does not start: "),
            "{error}"
        );
        let error = refused(&port(0, "net_pcap0,rx_pcap=/nonexistent.pcap"));
        assert!(
            error.contains("/nonexistent.pcap"),
            "DPDK's own words are missing: {error}"
        );
        let directory = tempfile::tempdir().unwrap();
        let output = format!(
            "net_pcap1,tx_pcap={}",
            directory.path().join("out.pcap").display()
        );
        let error = refused(&DeviceConfig {
            workers: 2,
            ..port(0, &output)
        });
        assert!(error.contains("has 1 for 2 workers"), "{error}");
        let error = refused(&port(0, "0000:ff:1f.7"));
        assert!(error.contains("0000:ff:1f.7"), "{error}");

        let mut null = Device::attach(&eal, &port(0, "net_null1")).unwrap();
        assert!(matches!(
            Device::attach(&eal, &port(1, "net_null1")),
            Err(Error::DeviceTaken { .. })
        ));
        let pool = MbufPool::new(&eal, 127, 1500, -1).unwrap();
        let mut jumbo = Device::attach(
            &eal,
            &DeviceConfig {
                mtu: 9000,
                ..port(2, "net_null2")
            },
        )
        .unwrap();
        assert!(matches!(
            jumbo.start(&[pool]),
            Err(Error::SmallMbufs {
                mtu: 9000,
                room: 2048,
                ..
            })
        ));
        let mut queues = null.start(&[pool]).unwrap();
        let mut burst = Burst::new();
        assert_eq!(
            queues.rx[0].burst(&mut burst),
            BURST,
            "the port works after others did not"
        );

        assert!(matches!(
            MbufPool::new(&eal, 1_000_000, 1500, -1),
            Err(Error::Pool { .. })
        ));
        let cpu = usable_cpus()[0];
        let again = Eal::init(&EalConfig {
            workers: &[cpu],
            main_lcore: cpu,
            ..ORDINARY
        });
        assert!(matches!(again, Err(Error::EalStartedTwice)));
    });
}

#[test]
fn the_kernel_side_of_a_tap_has_an_address_of_its_own() {
    alone_in_namespace(
        "starting::the_kernel_side_of_a_tap_has_an_address_of_its_own",
        || {
            let eal = eal();
            let pool = MbufPool::new(&eal, 4095, 1400, -1).unwrap();
            let mac = Mac([2, 0, 0, 0, 0, 1]);
            let device = "net_tap0,iface=wtest0";
            let config = DeviceConfig {
                mac: Some(mac),
                mtu: 1400,
                ..port(0, device)
            };
            let mut port = Device::attach(&eal, &config).unwrap();
            let queues = port.start(&[pool]).unwrap();

            let link = Command::new("ip")
                .args(["-o", "link", "show", "wtest0"])
                .output()
                .unwrap();
            let link = String::from_utf8_lossy(&link.stdout);
            assert_eq!(after(&link, "link/ether"), "02:ff:00:00:00:01", "{link}");
            assert_eq!(after(&link, "mtu"), "1400", "{link}");
            assert_eq!(port.mac(), mac);
            assert!(port.link().up);
            drop((queues, port));
            let link = Command::new("ip")
                .args(["link", "show", "wtest0"])
                .output()
                .unwrap();
            assert!(
                !link.status.success(),
                "a closed port leaves its TAP behind"
            );
        },
    );
}

#[test]
fn hugepages_are_used_where_enough_are_free() {
    alone("starting::hugepages_are_used_where_enough_are_free", || {
        let cpu = usable_cpus()[0];
        let init = |wanted| {
            Eal::init(&EalConfig {
                workers: &[cpu],
                main_lcore: cpu,
                hugepages: choose_hugepages(wanted, ORDINARY.memory_mb, Dma::Kernel)?,
                ..ORDINARY
            })
        };
        let eal = match init(Hugepages::Require) {
            Ok(eal) => {
                assert!(eal.hugepages());
                eal
            }
            Err(Error::TooFewHugepages { .. }) => {
                let eal = init(Hugepages::Auto).unwrap();
                assert!(!eal.hugepages());
                eal
            }
            Err(error) => panic!("{error}"),
        };
        // The most mbufs that were asked for, not one more: the estimate holds.
        let mbufs = ORDINARY.memory_mb * 1024 * 1024 / MbufPool::bytes(1, 1500, eal.hugepages());
        assert_eq!(
            MbufPool::new(&eal, mbufs, 1500, -1).unwrap().available(),
            mbufs
        );
    });
}

#[test]
fn a_large_pool_fits_into_ordinary_memory_as_estimated() {
    alone(
        "starting::a_large_pool_fits_into_ordinary_memory_as_estimated",
        || {
            const MBUFS: usize = 100_000;
            let cpu = usable_cpus()[0];
            let eal = Eal::init(&EalConfig {
                workers: &[cpu],
                main_lcore: cpu,
                memory_mb: MbufPool::bytes(MBUFS, 1500, false).div_ceil(1 << 20),
                ..ORDINARY
            });
            let pool = MbufPool::new(&eal.unwrap(), MBUFS, 1500, -1).unwrap();
            assert_eq!(pool.available(), MBUFS);
        },
    );
}

#[test]
fn arguments_that_the_eal_refuses_are_an_error_not_an_exit() {
    alone(
        "starting::arguments_that_the_eal_refuses_are_an_error_not_an_exit",
        || {
            let (cpu, extra) = (usable_cpus()[0], ["--no-such-option".to_owned()]);
            let refused = EalConfig {
                workers: &[cpu],
                main_lcore: cpu,
                extra_args: &extra,
                ..ORDINARY
            };
            let error = Eal::init(&refused).unwrap_err().to_string();
            assert!(error.starts_with("the EAL did not start: "), "{error}");
            // getopt and the usage text are the EAL's; what matters is that weir lives on to print its own error.
        },
    );
}
