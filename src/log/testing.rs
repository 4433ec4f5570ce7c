//! What the code logs, for tests.

use std::io::Write;
use std::sync::{Arc, Mutex};
use tracing_subscriber::fmt::time::Uptime;

#[derive(Clone, Default)]
struct Text(Arc<Mutex<Vec<u8>>>);

impl Write for Text {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The lines that `body` has the daemon log, at the level of every day.
pub fn logged(body: impl FnOnce()) -> Vec<String> {
    let text = Text::default();
    let out = text.clone();
    let log = tracing_subscriber::fmt()
        .with_writer(move || out.clone())
        .with_timer(Uptime::default())
        .with_ansi(false)
        .with_max_level(tracing::Level::INFO)
        .finish();
    tracing::subscriber::with_default(log, body);
    let text = text.0.lock().unwrap();
    String::from_utf8_lossy(&text)
        .lines()
        .map(str::to_owned)
        .collect()
}
