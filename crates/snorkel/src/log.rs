//! The log on stderr: silent but for warnings, unless `-v` was given.

use std::sync::OnceLock;

use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::render::style::{Style, When};

/// Starts it; once.
pub(crate) fn start(level: Level, color: When) {
    // Only a second one is refused.
    let _ = tracing::subscriber::set_global_default(Log { level, color, writer: OnceLock::new() });
}

/// What writes is made for the first line: most commands have none, and it would be a fiftieth of their time. Spans are not
/// shown.
struct Log {
    level: Level,
    color: When,
    writer: OnceLock<Box<dyn Subscriber + Send + Sync>>,
}

impl Log {
    fn writer(&self) -> &dyn Subscriber {
        self.writer.get_or_init(|| {
            let coloured = Style::of_stderr(self.color).is_coloured();
            let lines = tracing_subscriber::fmt().with_max_level(self.level).with_writer(std::io::stderr);
            Box::new(lines.with_ansi(coloured).with_target(false).without_time().finish())
        })
    }
}

impl Subscriber for Log {
    fn enabled(&self, what: &Metadata<'_>) -> bool {
        what.is_event() && *what.level() <= self.level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level.into())
    }

    fn event(&self, event: &Event<'_>) {
        self.writer().event(event);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
