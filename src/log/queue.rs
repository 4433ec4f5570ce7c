//! Lines on their way to stderr. Who logs only puts a line into the queue: it waits for no reader and no disk.

use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How much may wait.
const MAX_LINES: usize = 4096;
const MAX_BYTES: usize = 1 << 20;
/// A longer line is cut.
const LONGEST: usize = 64 << 10;
/// How often the thread looks whether it has something to say itself.
const PERIOD: Duration = Duration::from_secs(1);

/// Where lines are written.
pub(super) trait Destination {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Waits until it takes bytes again, after [`ErrorKind::WouldBlock`].
    fn wait(&mut self);
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Held while a line comes or goes, never while one is written.
    waiting: Mutex<Waiting>,
    came: Condvar,
    went: Condvar,
    lost: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// The thread is writing one.
    is_writing: bool,
}

impl Queue {
    /// Takes a line in, or counts it as lost.
    pub(super) fn push(&self, mut line: Vec<u8>) {
        if line.len() > LONGEST {
            let more = line.len() - LONGEST;
            // Never within a character.
            let end = (0..=LONGEST)
                .rev()
                .find(|&end| (line[end] & 0xc0) != 0x80)
                .unwrap_or_default();
            line.truncate(end);
            line.extend(format!("… ({more} more bytes)\n").bytes());
        }
        let mut waiting = self.waiting.lock();
        if waiting.lines.len() == MAX_LINES || waiting.bytes + line.len() > MAX_BYTES {
            self.lost.fetch_add(1, Relaxed);
            return;
        }
        waiting.bytes += line.len();
        waiting.lines.push_back(line);
        self.came.notify_one();
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    /// Waits until everything so far is written or lost, at most so long.
    pub(super) fn flush(&self, most: Duration) {
        let end = Instant::now() + most;
        let mut waiting = self.waiting.lock();
        while !waiting.lines.is_empty() || waiting.is_writing {
            if self.went.wait_until(&mut waiting, end).timed_out() {
                return;
            }
        }
    }

    /// Writes lines, for ever. `own`: what the thread has to say itself, given the number of lines lost and not told yet;
    /// asked for once a second.
    pub(super) fn write_out(&self, mut to: impl Destination, own: impl Fn(u64) -> Vec<u8>) {
        let mut out = Out {
            is_within_line: false,
        };
        let (mut told, mut due) = (0, Instant::now());
        loop {
            let line = self.next(due);
            if Instant::now() >= due {
                due = Instant::now() + PERIOD;
                let lost = self.lost();
                let text = own(lost - told);
                // If it cannot be written, it is said later, with what was lost meanwhile.
                if out.write(&mut to, &text).is_ok() {
                    told = lost;
                }
            }
            if let Some(line) = line {
                if out.write(&mut to, &line).is_err() {
                    self.lost.fetch_add(1, Relaxed);
                }
                self.waiting.lock().is_writing = false;
                self.went.notify_all();
            }
        }
    }

    /// The next line, which counts as being written; none if none came before `due`.
    fn next(&self, due: Instant) -> Option<Vec<u8>> {
        let mut waiting = self.waiting.lock();
        while waiting.lines.is_empty() {
            if self.came.wait_until(&mut waiting, due).timed_out() {
                break;
            }
        }
        let line = waiting.lines.pop_front()?;
        waiting.bytes -= line.len();
        waiting.is_writing = true;
        Some(line)
    }
}

struct Out {
    /// The last line could be written only in part.
    is_within_line: bool,
}

impl Out {
    fn write(&mut self, to: &mut impl Destination, line: &[u8]) -> io::Result<()> {
        if line.is_empty() {
            return Ok(());
        }
        if self.is_within_line {
            self.write_all(to, b"\n")?;
        }
        self.write_all(to, line)
    }

    fn write_all(&mut self, to: &mut impl Destination, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match to.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.is_within_line = bytes[written - 1] != b'\n';
                    bytes = &bytes[written..];
                }
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                Err(why) if why.kind() == ErrorKind::WouldBlock => to.wait(),
                Err(why) => return Err(why),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    /// What a destination does with the bytes that it is given.
    #[derive(Clone, Copy, Debug)]
    enum Does {
        Take,
        /// So many of them, and then it is full (ENOSPC).
        Fill(usize),
        /// Its reader is gone (EPIPE).
        Close,
        /// A full pipe that is non-blocking (EAGAIN).
        Refuse,
        /// A full pipe: the write waits.
        Block,
    }

    /// What it does, and the bytes that it has taken.
    type State = (Does, Vec<u8>);

    #[derive(Clone)]
    struct Fake(Arc<(Mutex<State>, Condvar)>);

    impl Fake {
        fn new(does: Does) -> Self {
            Fake(Arc::new((Mutex::new((does, vec![])), Condvar::new())))
        }

        fn set(&self, does: Does) {
            self.0.0.lock().0 = does;
            self.0.1.notify_all();
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.0.lock().1.clone()).unwrap()
        }
    }

    impl Destination for Fake {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut state = self.0.0.lock();
            while matches!(state.0, Does::Block) {
                self.0.1.wait(&mut state);
            }
            match state.0 {
                Does::Take => {
                    state.1.extend_from_slice(bytes);
                    Ok(bytes.len())
                }
                Does::Fill(0) => Err(io::Error::from_raw_os_error(28)),
                Does::Fill(room) => {
                    let taken = room.min(bytes.len());
                    state.1.extend_from_slice(&bytes[..taken]);
                    state.0 = Does::Fill(room - taken);
                    Ok(taken)
                }
                Does::Close => Err(ErrorKind::BrokenPipe.into()),
                Does::Refuse => Err(ErrorKind::WouldBlock.into()),
                Does::Block => unreachable!(),
            }
        }

        fn wait(&mut self) {
            let mut state = self.0.0.lock();
            while matches!(state.0, Does::Refuse) {
                self.0.1.wait(&mut state);
            }
        }
    }

    /// A queue that is written out to `to`, and says how many lines were lost.
    fn queue(to: &Fake) -> Arc<Queue> {
        let queue = Arc::new(Queue::default());
        let (lines, to) = (queue.clone(), to.clone());
        std::thread::spawn(move || {
            lines.write_out(to, |lost| match lost {
                0 => vec![],
                lost => format!("{lost} lost\n").into_bytes(),
            });
        });
        queue
    }

    fn within(seconds: u64, look: impl Fn() -> bool) -> bool {
        let end = Instant::now() + Duration::from_secs(seconds);
        while !look() {
            if Instant::now() > end {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }

    #[test]
    fn whatever_stderr_does_nobody_waits_and_what_is_lost_is_told_later() {
        for does in [Does::Fill(3), Does::Close, Does::Refuse, Does::Block] {
            let to = Fake::new(does);
            let queue = queue(&to);
            let began = Instant::now();
            let lines = 2 * MAX_LINES + 100;
            for n in 0..lines {
                queue.push(format!("line {n}\n").into_bytes());
            }
            queue.flush(Duration::from_millis(10));
            assert!(began.elapsed() < Duration::from_secs(5), "{does:?}");
            assert!(
                within(10, || queue.lost() as usize >= lines - MAX_LINES - 1),
                "{does:?}: {}",
                queue.lost()
            );
            to.set(Does::Take);
            // As many as are not there, the first of a full disk's half a line.
            let told = |text: &str| -> u64 {
                let told = text.lines().filter_map(|line| line.strip_suffix(" lost"));
                told.map(|count| count.parse::<u64>().unwrap()).sum()
            };
            assert!(
                within(10, || told(&to.text()) == queue.lost()),
                "{does:?}: {} of {}",
                told(&to.text()),
                queue.lost()
            );
            queue.push(b"after\n".to_vec());
            assert!(within(10, || to.text().ends_with("after\n")), "{does:?}");
            let text = to.text();
            let whole = text.lines().filter(|line| line.starts_with("line "));
            assert_eq!(
                whole.count() as u64 + queue.lost(),
                lines as u64,
                "{does:?}"
            );
        }
    }

    #[test]
    fn a_queue_has_room_for_so_much_and_a_long_line_is_cut_between_characters() {
        let queue = Queue::default();
        queue.push("ä".repeat(LONGEST).into_bytes());
        let line = String::from_utf8(queue.next(Instant::now()).unwrap()).unwrap();
        assert!(line.len() < LONGEST + 40 && line.ends_with("more bytes)\n"));
        for _ in 0..100 {
            queue.push(vec![b'x'; LONGEST]);
        }
        assert_eq!(queue.lost() as usize, 100 - MAX_BYTES / LONGEST);
    }
}
