//! How many queues a port gets: what its driver says that it has, corrected where that is known not to be so.

use super::{DeviceConfig, Error};
use crate::config::Queues;
use dpdk_sys::rte_eth_dev_info;

/// The most receive and transmit queues that work, whatever the driver claims.
pub(super) fn most_queues(driver: &str, info: &rte_eth_dev_info) -> (u16, u16) {
    match driver {
        // It claims two for every model, but sets up one (82540EM has no more): what the second sends is lost.
        "net_e1000_em" => (1, 1),
        _ => (info.max_rx_queues, info.max_tx_queues),
    }
}

/// The numbers of receive and transmit queues, given the device's most.
pub(super) fn choose_queues(
    config: &DeviceConfig,
    driver: &str,
    most_rx: u16,
    most_tx: u16,
) -> Result<(u16, u16), Error> {
    let (port, driver) = (config.name.to_owned(), driver.to_owned());
    let workers = config.workers;
    if most_tx < workers {
        return Err(Error::TooFewTxQueues {
            port,
            driver,
            workers,
            most: most_tx,
        });
    }
    let rx = match config.queues {
        Queues::Auto => workers.min(most_rx),
        Queues::Pairs(queues) if queues > most_rx => {
            return Err(Error::TooFewRxQueues {
                port,
                driver,
                queues,
                most: most_rx,
            });
        }
        Queues::Pairs(queues) => queues,
    };
    // vmxnet3_dev_configure takes nothing else.
    if driver == "net_vmxnet3" {
        let rx = match config.queues {
            Queues::Auto => 1 << rx.ilog2(),
            Queues::Pairs(queues) if !queues.is_power_of_two() => {
                return Err(Error::NoPowerOfTwo {
                    port,
                    driver,
                    queues,
                });
            }
            Queues::Pairs(_) => rx,
        };
        // Those beyond the workers' stay empty.
        let tx = workers.next_power_of_two();
        return match tx <= most_tx {
            true => Ok((rx, tx)),
            false => Err(Error::TooFewTxQueues {
                port,
                driver,
                workers,
                most: 1 << most_tx.ilog2(),
            }),
        };
    }
    // tap_dev_configure refuses anything else.
    let paired = driver == "net_tap";
    match (paired, rx.cmp(&workers)) {
        (true, std::cmp::Ordering::Less) => Err(Error::UnequalQueues {
            port,
            driver,
            workers,
        }),
        (true, _) => Ok((rx, rx)),
        (false, _) => Ok((rx, workers)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::pci::Dma;
    use crate::units::{DeviceId, PortId};
    use std::mem::MaybeUninit;

    fn choose(
        queues: Queues,
        workers: u16,
        driver: &str,
        rx: u16,
        tx: u16,
    ) -> Result<(u16, u16), String> {
        let config = DeviceConfig {
            id: DeviceId(0),
            port: PortId(0),
            vlans: &[],
            name: "wan",
            device: "x",
            mac: None,
            mtu: 1500,
            queues,
            workers,
            one_pool: true,
            interrupts: false,
            dma: Dma::Kernel,
            rss_key: &[0; 40],
        };
        choose_queues(&config, driver, rx, tx).map_err(|error| error.to_string())
    }

    #[test]
    fn every_worker_gets_a_transmit_queue_and_receive_queues_as_far_as_they_go() {
        assert_eq!(choose(Queues::Auto, 4, "net_ixgbe", 64, 64), Ok((4, 4)));
        assert_eq!(choose(Queues::Auto, 4, "net_ring", 1, 4), Ok((1, 4)));
        assert_eq!(choose(Queues::Pairs(2), 4, "net_ixgbe", 64, 64), Ok((2, 4)));
        assert_eq!(choose(Queues::Pairs(8), 4, "net_ixgbe", 64, 64), Ok((8, 4)));
        let error = choose(Queues::Auto, 2, "net_pcap", 1, 1).unwrap_err();
        assert!(
            error.contains("has 1 for 2 workers; list at most 1 in [dpdk] workers"),
            "{error}"
        );
        let error = choose(Queues::Pairs(9), 2, "net_x", 8, 8).unwrap_err();
        assert!(
            error.contains("queues = 9") && error.contains("8 receive queues at most"),
            "{error}"
        );
    }

    #[test]
    fn what_a_driver_claims_and_does_not_keep_is_corrected() {
        // SAFETY: zero is a value of each of its numbers and pointers.
        let mut info: rte_eth_dev_info = unsafe { MaybeUninit::zeroed().assume_init() };
        (info.max_rx_queues, info.max_tx_queues) = (2, 2);
        assert_eq!(most_queues("net_e1000_em", &info), (1, 1));
        assert_eq!(most_queues("net_e1000_igb", &info), (2, 2));
    }

    #[test]
    fn vmxnet3_has_powers_of_two() {
        let choose = |queues, workers| choose(queues, workers, "net_vmxnet3", 16, 8);
        for (workers, expected) in [(1, (1, 1)), (2, (2, 2)), (3, (2, 4)), (5, (4, 8))] {
            assert_eq!(choose(Queues::Auto, workers), Ok(expected), "{workers}");
        }
        assert_eq!(choose(Queues::Pairs(4), 3), Ok((4, 4)));
        assert!(
            choose(Queues::Pairs(3), 3)
                .unwrap_err()
                .contains("1, 2, 4 or 8")
        );
        assert!(
            choose(Queues::Auto, 9)
                .unwrap_err()
                .contains("has 8 for 9 workers")
        );
    }

    #[test]
    fn a_tap_has_as_many_receive_as_transmit_queues() {
        assert_eq!(choose(Queues::Auto, 2, "net_tap", 16, 16), Ok((2, 2)));
        assert_eq!(choose(Queues::Pairs(4), 2, "net_tap", 16, 16), Ok((4, 4)));
        assert!(
            choose(Queues::Pairs(1), 2, "net_tap", 16, 16)
                .unwrap_err()
                .contains("at least 2")
        );
    }
}
