//! Brings the events that happen inside a span to a place of its own, beside the program's log.

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::sync::Arc;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Span, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// Takes the events that happen inside a span. It must not log itself.
pub trait Sink: Send + Sync {
    /// Takes one event: its message, then its fields as `name=value`.
    fn event(&self, level: Level, text: &str);
}

thread_local! {
    /// The sink of the span that is being made.
    static NEXT: RefCell<Option<Arc<dyn Sink>>> = const { RefCell::new(None) };
}

/// The span that `make` makes; events inside it go to `sink`, too, as far as the log's level lets them through.
pub fn routed(sink: Arc<dyn Sink>, make: impl FnOnce() -> Span) -> Span {
    NEXT.with_borrow_mut(|next| *next = Some(sink));
    let span = make();
    // Still there when the span is switched off.
    drop(NEXT.with_borrow_mut(Option::take));
    span
}

/// Asks each event for the nearest span with a sink.
pub(super) struct Route;

struct Routed(Arc<dyn Sink>);

impl<S: Subscriber + for<'l> LookupSpan<'l>> Layer<S> for Route {
    fn on_new_span(&self, _: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(sink) = NEXT.with_borrow_mut(Option::take)
            && let Some(span) = context.span(id)
        {
            span.extensions_mut().insert(Routed(sink));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let nearest = |span: tracing_subscriber::registry::SpanRef<'_, S>| {
            span.extensions().get::<Routed>().map(|routed| Arc::clone(&routed.0))
        };
        let Some(sink) = context.event_scope(event).and_then(|mut scope| scope.find_map(nearest)) else { return };
        let mut text = Text::default();
        event.record(&mut text);
        sink.event(*event.metadata().level(), &format!("{}{}", text.message, text.fields));
    }
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Text {
    /// Writing to a text cannot fail.
    fn add(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let _ = match field.name() {
            "message" => self.message.write_fmt(value),
            name => write!(self.fields, " {name}={value}"),
        };
    }
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format_args!("{value:?}"));
    }
}
