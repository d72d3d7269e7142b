//! Progress bars on standard error.

use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The progress of a long command. Clones share the bar, which is removed from the terminal with the last of them.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    bar: Arc<Bar>,
}

#[derive(Debug)]
struct Bar(ProgressBar);

impl Progress {
    /// Starts at 0 of `total`; a total of 0 is unknown.
    pub(super) fn new(total: u64, unit: &'static str, hidden: bool) -> Self {
        // On a standard error that is not a terminal, indicatif draws nothing.
        let target = if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target((total > 0).then_some(total), target);
        let template = match total {
            0 => "{spinner} {human_pos} {prefix}  {elapsed}",
            _ => "{bar:30} {human_pos}/{human_len} {prefix}  {elapsed}, {eta} left",
        };
        let style = ProgressStyle::with_template(template).expect("the templates are valid");
        bar.set_style(style.progress_chars("##-"));
        bar.set_prefix(unit);
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar: Arc::new(Bar(bar)) }
    }

    pub(crate) fn set(&self, done: u64) {
        self.bar.0.set_position(done);
    }

    pub(crate) fn add(&self, done: u64) {
        self.bar.0.inc(done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
