//! Runs work that may take all memory or never end: templates.
//!
//! Rust aborts the process where an allocation fails, and gives an allocator no
//! way to make the caller fail instead. So a thread that goes over its budget is
//! stopped where it stands, for ever, and what it holds is lost: the budget at
//! most, once for each template that does so.

use crate::guard::{caught, Failure, DEEP_STACK};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// How often the waiting side looks whether the work was stopped.
const GLANCE: Duration = Duration::from_millis(5);

const FREE: u8 = 0;
/// The work took too long and still runs.
const LATE: u8 = 1;
/// The work asked for too much memory and stands still.
const STOPPED: u8 = 2;

thread_local! {
    /// What the thread may still allocate, and where it says that it stopped.
    static BUDGET: Cell<(isize, *const AtomicU8)> = const { Cell::new((0, std::ptr::null())) };
}

struct Budgeted;

#[global_allocator]
static ALLOCATOR: Budgeted = Budgeted;

/// Charges the thread for size bytes more. Over the budget it does not return.
#[inline]
fn charge(size: isize) {
    let Ok((left, state)) = BUDGET.try_with(Cell::get) else {
        return;
    };
    if state.is_null() {
        return;
    }
    let left = left.saturating_sub(size);
    BUDGET.with(|b| b.set((left, state)));
    if left < 0 && size > 0 {
        // The state lives as long as the thread's closure, so for ever.
        unsafe { (*state).store(STOPPED, Ordering::Release) };
        loop {
            thread::sleep(Duration::from_secs(3600));
        }
    }
}

unsafe impl GlobalAlloc for Budgeted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        charge(layout.size() as isize);
        System.alloc(layout)
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        charge(layout.size() as isize);
        System.alloc_zeroed(layout)
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        charge(-(layout.size() as isize));
        System.dealloc(ptr, layout)
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Old and new may exist together while the bytes are copied.
        charge(size as isize);
        let moved = System.realloc(ptr, layout, size);
        charge(-(layout.size() as isize));
        moved
    }
}

/// One source of such work. Once a run was left behind, no other starts before
/// it ends.
#[derive(Default)]
pub struct Bounded {
    state: Arc<AtomicU8>,
}

impl Bounded {
    /// Runs f on a thread with a deep stack, with at most memory bytes and for
    /// at most limit.
    pub fn run<T: Send + 'static>(
        &self,
        memory: usize,
        limit: Duration,
        f: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        if self.state.load(Ordering::Acquire) != FREE {
            return Err(refuse!("an earlier run took too much and has not ended"));
        }
        let (done, result) = mpsc::sync_channel(1);
        let mine = Arc::new(AtomicU8::new(FREE));
        let (state, shared) = (mine.clone(), self.state.clone());
        let work = move || {
            BUDGET.with(|b| b.set((memory as isize, Arc::as_ptr(&state))));
            let value = caught(f);
            BUDGET.with(|b| b.set((0, std::ptr::null())));
            if done.send(value).is_err() {
                shared.store(FREE, Ordering::Release);
            }
        };
        thread::Builder::new()
            .name("native".into())
            .stack_size(DEEP_STACK)
            .spawn(work)?;
        let start = Instant::now();
        loop {
            match result.recv_timeout(GLANCE) {
                Ok(value) => return value,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::Panicked("a thread ended early".into()))
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if mine.load(Ordering::Acquire) == STOPPED {
                self.state.store(STOPPED, Ordering::Release);
                return Err(refuse!("needs more than {} MiB", memory >> 20));
            }
            if start.elapsed() > limit {
                break;
            }
        }
        // Set before the receiver goes, since then the work may unset it.
        self.state.store(LATE, Ordering::Release);
        match result.try_recv() {
            Ok(value) => {
                self.state.store(FREE, Ordering::Release);
                value
            }
            Err(_) => Err(refuse!("takes longer than {} s", limit.as_secs_f32())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn refused<T>(result: Result<T, Failure>, words: &str) {
        match result {
            Err(Failure::Refused(m)) => assert!(m.contains(words), "{m}"),
            _ => panic!("not refused: {words}"),
        }
    }

    #[test]
    fn work_that_does_not_end_is_left_behind() {
        let bounded = Bounded::default();
        let (go, wait) = mpsc::channel::<()>();
        let slow = bounded.run(1 << 20, Duration::from_millis(20), move || {
            Ok(wait.recv().is_ok())
        });
        refused(slow, "longer than 0.02 s");
        refused(bounded.run(1 << 20, LONG, || Ok(1)), "not ended");
        drop(go);
        while bounded.state.load(Ordering::Acquire) != FREE {
            thread::yield_now();
        }
        assert!(matches!(bounded.run(1 << 20, LONG, || Ok(1)), Ok(1)));
    }

    #[test]
    fn memory_over_the_budget_stops_the_work() {
        let bounded = Bounded::default();
        // What is freed counts no more.
        let churn = bounded.run(1 << 20, LONG, || {
            Ok((0..1000)
                .map(|i| vec![i as u8; 100_000].len())
                .sum::<usize>())
        });
        assert!(matches!(churn, Ok(100_000_000)));
        let grow = bounded.run(1 << 20, LONG, || {
            let mut list = Vec::new();
            loop {
                list.push(0u64);
                if list.len() > 1 << 30 {
                    return Ok(list.len());
                }
            }
        });
        refused(grow, "more than 1 MiB");
        refused(bounded.run(1 << 20, LONG, || Ok(1)), "not ended");
    }

    #[test]
    fn a_panic_is_a_failure_here_too() {
        let bounded = Bounded::default();
        let r = bounded.run::<()>(1 << 20, LONG, || panic!("boom"));
        assert!(matches!(r, Err(Failure::Panicked(m)) if m.starts_with("boom")));
        assert!(matches!(bounded.run(1 << 20, LONG, || Ok(1)), Ok(1)));
    }
}
