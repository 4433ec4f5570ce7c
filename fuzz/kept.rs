//! Whatever is in the file that connections were kept in: it is read within its bounds, and what is taken from it fits together.
//!
//! The body of the fuzz target `kept`, which the tests run over `regressions/kept` as well. The first bytes of an input are names
//! of real servers, the others entries of each kind and what is told of their clients.

use weir::conn::{Connection, FlowKey, FlowKey6, FlowKeyAny, Key};
use weir::record::{Header, Kept, Name, Section};
use weir::units::{Millis, RealId, ServiceId};

const NAMES: usize = 2;

pub fn run(input: &[u8]) {
    // As it is: mostly no file of weir's.
    drop(Kept::open(Box::new(input.to_vec())));
    let names = &input[..input.len().min(NAMES * Name::BYTES)];
    let rest = &input[names.len()..];
    let entries_at = (Header::BYTES + NAMES * Name::BYTES) as u64;
    let section = |(table, size): (u32, usize)| Section {
        worker: 0,
        table,
        size: size as u32,
        entries: (rest.len() / size) as u64,
        at: entries_at,
        told_at: Header::BYTES as u64,
    };
    let sizes = [
        size_of::<Connection<FlowKey>>(),
        size_of::<Connection<FlowKey6>>(),
        size_of::<Connection<FlowKeyAny>>(),
    ];
    let header = Header {
        boot: [0; 16],
        origin: 0,
        alive: 0,
        key: [0; 40],
        workers: 1,
        names: NAMES as u64,
        names_used: NAMES as u64,
        sections: (0..).zip(sizes).map(section).collect(),
    };
    let mut file = header.to_bytes();
    file.extend(names);
    file.resize(entries_at as usize, 0);
    file.extend(rest);
    let mut kept = Kept::open(Box::new(file)).expect("its header is whole");
    kept.resolve(|_| Some(RealId(7)));
    read::<FlowKey>(&kept, 0);
    read::<FlowKey6>(&kept, 1);
    read::<FlowKeyAny>(&kept, 2);
}

fn read<K: Key>(kept: &Kept, table: usize) {
    for section in kept.sections(table) {
        let mut next = 0;
        kept.records::<K>(section, |number, record| {
            assert!(number >= next && u64::from(number) < section.entries);
            next = number + 1;
            let Ok(record) = record else {
                return;
            };
            assert!(record.name.fits(&record.connection));
            let now = Millis(123);
            let renewed = record
                .connection
                .renewed(record.real, ServiceId(1), 456, now);
            assert!(now.since(renewed.last_seen) <= i32::MAX as u32);
            assert_eq!(renewed.request, record.connection.request);
        });
    }
}
