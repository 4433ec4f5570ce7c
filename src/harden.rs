//! What the process gives up once it has what it needs, so that an attacker who takes it over gains less.

use rustix::io;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_no_new_privs,
};

/// The most descriptors that are asked for: some for each connection of the API, and plenty for what matters.
const DESCRIPTORS: u64 = 65_536;

/// Which thread it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Reads the configuration again, keeps companions in step, closes devices.
    Control,
    /// Checks real servers.
    Health,
    /// Carries packets, or lines of the log.
    Worker,
}

impl Role {
    /// What the thread needs after the start.
    fn keeps(self) -> CapabilitySet {
        match self {
            // net_tap's interfaces and the companions go by netlink; the configuration may be another user's.
            Role::Control => CapabilitySet::NET_ADMIN | CapabilitySet::DAC_READ_SEARCH,
            // Programs of exec checks run as an unprivileged user, and are ended when they take too long. Sockets are bound to
            // companions (before Linux 5.7 that takes a privilege), those of ICMP too.
            Role::Health => {
                CapabilitySet::SETUID
                    | CapabilitySet::SETGID
                    | CapabilitySet::KILL
                    | CapabilitySet::NET_RAW
            }
            Role::Worker => CapabilitySet::empty(),
        }
    }
}

/// Before anything else: no core dumps, which hold packets (a soft limit, to be raised by `prlimit --core`), and as many file
/// descriptors as there may be.
pub(crate) fn limits() {
    let core = getrlimit(Resource::Core);
    let none = Rlimit {
        current: Some(0),
        ..core
    };
    let files = getrlimit(Resource::Nofile);
    let most = files.maximum.unwrap_or(DESCRIPTORS).min(DESCRIPTORS);
    let many = Rlimit {
        current: Some(files.current.unwrap_or(most).max(most)),
        ..files
    };
    for (what, limit) in [(Resource::Core, none), (Resource::Nofile, many)] {
        if let Err(why) = setrlimit(what, limit) {
            tracing::warn!("the limit of {what:?} stays as it is: {why}");
        }
    }
}

/// Gives up the calling thread's capabilities but for those that its role needs, and every way to new ones.
pub(crate) fn drop_privileges(role: Role) {
    if let Err(why) = give_up(role.keeps()) {
        tracing::warn!("privileges are kept: {why}");
    }
}

fn give_up(keeps: CapabilitySet) -> io::Result<()> {
    set_no_new_privs(true)?;
    let has = capabilities(None)?;
    let left = has.permitted & keeps;
    set_capabilities(
        None,
        CapabilitySets {
            effective: left,
            permitted: left,
            inheritable: CapabilitySet::empty(),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_keeps_what_its_role_needs_and_no_more() {
        for role in [Role::Control, Role::Health, Role::Worker] {
            // Capabilities are the thread's.
            std::thread::spawn(move || {
                let before = capabilities(None).unwrap().permitted;
                drop_privileges(role);
                let after = capabilities(None).unwrap();
                assert_eq!(after.permitted, before & role.keeps(), "{role:?}");
                assert_eq!(after.effective, after.permitted);
                assert!(after.inheritable.is_empty());
                assert!(rustix::thread::no_new_privs().unwrap());
            })
            .join()
            .unwrap();
        }
    }
}
