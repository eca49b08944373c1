//! The log on stderr: silent but for warnings, unless `-v` was given.

use std::sync::OnceLock;

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::render::style::{Style, When};

/// Starts it.
pub(crate) fn start(level: Level, color: When) {
    // Whoever comes second finds a log already: it is the same.
    let _ = tracing::subscriber::set_global_default(Log { level, color, writer: OnceLock::new() });
}

/// What writes is made for the first line: most commands have none, and it would be a fiftieth of their time.
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
        *what.level() <= self.level
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(self.level.into())
    }

    fn event(&self, event: &Event<'_>) {
        self.writer().event(event);
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.writer().new_span(span)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        self.writer().record(span, values);
    }

    fn record_follows_from(&self, span: &Id, follows: &Id) {
        self.writer().record_follows_from(span, follows);
    }

    fn enter(&self, span: &Id) {
        self.writer().enter(span);
    }

    fn exit(&self, span: &Id) {
        self.writer().exit(span);
    }
}
