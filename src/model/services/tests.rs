//! Whatever changes made a configuration: what is published, and every index behind it, is as if it had been there from the
//! start. Ids may be others, and what history leaves behind on purpose is bounded by what it may be.

mod generated;
mod lab;
mod seen;

use super::configured::At;
use super::*;
use crate::model::{Device, Model, static_neighbours};
use crate::net::ipv4;
use crate::rcu::Reader;
use crate::service::{Admin, Condition, Health};
use crate::tables::Placement;
use crate::units::PortId;
use crate::wire::Mac;
use generated::*;
use lab::Lab;
use proptest::prelude::*;
use seen::*;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{Ipv4Addr, SocketAddr};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn any_changes_lead_to_what_a_fresh_model_of_the_result_has(
        world in worlds(),
        first in services(),
        steps in steps(),
    ) {
        let config = parse(&world, &first).or_else(|| parse(&world, &[])).unwrap();
        let mut lab = Lab::new(&config);
        for step in &steps {
            lab.take(step);
            compare(&lab, false);
        }
        lab.wait(700);
        // What is released is in the tables with the next publication.
        lab.model.publish(|_| {});
        compare(&lab, true);
    }
}

/// The generator makes what the test is about.
#[test]
fn most_generated_changes_are_valid() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut draw = || {
        let drawn = (worlds(), services()).new_tree(&mut runner).unwrap();
        let (world, services) = drawn.current();
        parse(&world, &services).map_or(0, |config| config.services.len())
    };
    let valid = (0..200).filter(|_| draw() > 0).count();
    assert!(valid > 100, "{valid} of 200");
}
