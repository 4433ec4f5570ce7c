use super::testing::*;
use super::*;
use crate::wire::arp;

#[test]
fn a_real_server_that_falls_silent_has_failed_within_three_seconds_and_is_back_with_its_answer() {
    for is_v6 in [false, true] {
        let mut lab = match is_v6 {
            true => Lab::v6(&reals(1)),
            false => Lab::new(&reals(1)),
        };
        let own = IpAddr::from([10, 0, 0, 1]);
        lab.model.confirm_all();
        lab.go_to(10);
        assert_eq!(lab.said, ["1 all for 10.0.0.11"], "before any packet");
        lab.arp(arp::REPLY, (lan(11), mac(1)), own);
        let state = |lab: &Lab| lab.link(lan(11)).unwrap().state;
        // It answers each second, and no packet takes the long way meanwhile.
        for second in 1..6 {
            lab.said.clear();
            lab.go_to(10 + second * 1000);
            assert_eq!(lab.said.len(), 1);
            assert!(lab.said[0].ends_with("01 for 10.0.0.11"), "{:?}", lab.said);
            assert_eq!(state(&lab), LinkState::Reachable);
            lab.arp(arp::REPLY, (lan(11), mac(1)), own);
        }
        let silent = 5011;
        lab.said.clear();
        lab.go_to(silent + 2400);
        assert_eq!(state(&lab), LinkState::Reachable);
        lab.go_to(silent + 2600);
        assert_eq!(state(&lab), LinkState::Failed);
        let asked: Vec<_> = lab
            .said
            .iter()
            .map(|it| it.split_once(' ').unwrap().1)
            .collect();
        let expected = ["01 for 10.0.0.11", "all for 10.0.0.11", "all for 10.0.0.11"];
        assert_eq!(asked, expected);
        lab.go_to(silent + 9000);
        assert_eq!(state(&lab), LinkState::Failed);
        lab.arp(arp::REPLY, (lan(11), mac(1)), own);
        assert_eq!(state(&lab), LinkState::Reachable);
    }
}

#[test]
fn what_no_configuration_needs_is_not_asked_all_the_time() {
    let mut lab = Lab::new(&reals(1));
    lab.model.confirm_all();
    lab.want(lan(99));
    lab.arp(arp::REPLY, (lan(99), mac(9)), IpAddr::from([10, 0, 0, 1]));
    lab.said.clear();
    lab.go_to(29_000);
    assert!(!lab.said.iter().any(|it| it.ends_with("10.0.0.99")));
}
