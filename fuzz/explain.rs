//! Any text is explained as a packet, or refused with the place of what is wrong; what is read as words is written the same way.
//!
//! The body of the fuzz target `explain`, which the tests run over `regressions/explain` as well.

use std::sync::OnceLock;
use weir::config::{Config, Context, parse};
use weir::explain::{Asked, Running, explain};

fn config() -> &'static Config {
    static CONFIG: OnceLock<Config> = OnceLock::new();
    CONFIG.get_or_init(|| {
        let context = Context {
            cpus: None,
            devices: false,
        };
        let loaded = parse(include_str!("director.toml"), "director.toml", &context);
        loaded.unwrap_or_else(|wrong| panic!("{wrong}")).config
    })
}

pub fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut packets = Vec::new();
    for line in text.lines().take(4) {
        match line.parse::<Asked>() {
            Ok(asked) => {
                if let Asked::Words(words) = &asked {
                    assert_eq!(words.to_string().parse(), Ok(*words), "{line}");
                }
                packets.push(asked);
            }
            Err(wrong) => {
                assert!(wrong.column <= line.chars().count(), "{wrong:?}");
                assert!(!wrong.show(line).is_empty());
            }
        }
    }
    let stories = explain(config(), &Running::default(), None, &packets).expect("there is memory");
    assert_eq!(stories.len(), packets.len());
    for story in stories {
        let last = story.steps.last().expect("there are steps");
        assert_eq!(last.step, "verdict");
        assert!(!story.decision["verdict"].is_null());
    }
}
