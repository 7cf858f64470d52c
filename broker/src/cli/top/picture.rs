//! The picture, as a function of what is known: nothing here asks or waits.

use hornpipe_proto::control::{StatusReport, WorkerReport};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line as Words;
use ratatui::widgets::{Block, Borders, Cell, Clear, Paragraph, Row, Sparkline, Table, TableState};

use super::super::output::harmless;
use super::super::status::memory;
use super::super::table::age;
use super::{Line, View};

const KEYS: &str = "up/down select  + - scale  r recycle  R reload  p pause  ? help  q quit";

const HELP: [&str; 9] = [
    "up, down  select a worker (also k, j)",
    "+, -      one worker more, one less",
    "r         another process for the selected slot, the replacement first",
    "R         fresh workers for all slots; if the new ones fail, the old ones stay",
    "p         hand out no request, and again",
    "q         quit (also Ctrl-C)",
    "",
    "Whatever changes something is asked about first: y is yes, any other key is no.",
    "? closes this.",
];

/// Rows of the graph.
const GRAPH: u16 = 4;

pub(super) fn draw(frame: &mut Frame<'_>, view: &View) {
    let [head, graph, table, foot] = Layout::vertical([
        Constraint::Length(4),
        Constraint::Length(GRAPH),
        Constraint::Min(3),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(header(view)), head);
    draw_graph(frame, view, graph);
    draw_workers(frame, view, table);
    frame.render_widget(foot_line(view), foot);
    if view.line == Line::Help {
        draw_help(frame, table);
    }
}

fn header(view: &View) -> Vec<Words<'static>> {
    let report = &view.report;
    let strong = Style::new().add_modifier(Modifier::BOLD);
    let title = format!(
        "hornpipe {}  {}  {}  up {}  router {}",
        report.version,
        if view.report.brokers.is_empty() { format!("port {}", view.name) } else { view.name.clone() },
        report.phase.to_uppercase(),
        age(report.uptime_ms),
        report.router_life
    );
    let trouble = view
        .lost
        .as_ref()
        .map(|why| format!("lost: {}", harmless(why)))
        .or_else(|| report.pool.degraded.as_ref().map(|why| format!("degraded: {}", harmless(why))));
    vec![
        Words::styled(title, strong.fg(colour_of(&report.phase))),
        Words::raw(workers_line(report)),
        Words::raw(requests_line(view)),
        Words::styled(trouble.unwrap_or_default(), Style::new().fg(Color::Red)),
    ]
}

fn colour_of(phase: &str) -> Color {
    match phase {
        "serving" => Color::Green,
        "failing" => Color::Red,
        _ => Color::Yellow,
    }
}

fn workers_line(report: &StatusReport) -> String {
    let pool = &report.pool;
    let busy = match pool.ready {
        0 => 0,
        ready => u64::from(pool.processing) * 100 / u64::from(ready),
    };
    let external = match report.external.len() {
        0 => String::new(),
        count => format!("  {count} external"),
    };
    let reload = pool.reload.map(|reload| format!(" -> {} ({} renewed)", reload.to, reload.renewed));
    format!(
        "workers   {} ready of {} ({} to {})  busy {busy}%  generation {}{}{external}",
        pool.ready,
        pool.target,
        pool.min,
        pool.max,
        pool.generation,
        reload.unwrap_or_default()
    )
}

fn requests_line(view: &View) -> String {
    let queue = &view.report.queue;
    let (rate, errors) = match view.rates.now {
        Some((rate, errors)) => (tenths(rate), tenths(errors)),
        None => ("-".into(), "-".into()),
    };
    let oldest = queue.oldest_ms.map_or("-".into(), age);
    format!(
        "requests  {rate}/s  errors {errors}/s  queue {} of {}  oldest {oldest}",
        queue.backlog_len, queue.backlog_limit
    )
}

fn tenths(number: u64) -> String {
    format!("{}.{}", number / 10, number % 10)
}

fn draw_graph(frame: &mut Frame<'_>, view: &View, area: Rect) {
    let most = view.rates.history.iter().max().copied().unwrap_or(0);
    let title = format!("requests/s in the last minute, {most} at most");
    // The latest stands at the right edge.
    let room = usize::from(area.width);
    let skipped = view.rates.history.len().saturating_sub(room);
    let columns: Vec<u64> = view.rates.history.iter().skip(skipped).copied().collect();
    let graph = Sparkline::default()
        .block(Block::new().borders(Borders::TOP).title(title))
        .style(Style::new().fg(Color::Cyan))
        .data(columns);
    frame.render_widget(graph, area);
}

fn draw_workers(frame: &mut Frame<'_>, view: &View, area: Rect) {
    let head = ["SLOT", "PID", "STATE", "AGE", "REQS", "NOW", "PRIV", "SHARED", "LAST EXIT"];
    // Slots of further services have long numbers.
    let slots = view.report.workers.iter().map(|worker| worker.slot.to_string().len());
    let slot = u16::try_from(slots.max().unwrap_or_default()).unwrap_or_default().max(4);
    let widths = [slot, 7, 10, 6, 9, 7, 8, 8].map(Constraint::Length).into_iter().chain([Constraint::Min(9)]);
    let rows = view.report.workers.iter().map(row);
    let table = Table::new(rows, widths)
        .header(Row::new(head).style(Style::new().add_modifier(Modifier::REVERSED)))
        .row_highlight_style(Style::new().add_modifier(Modifier::BOLD).bg(Color::DarkGray));
    let mut state = TableState::new().with_selected(Some(view.selected));
    frame.render_stateful_widget(table, area, &mut state);
}

fn row(worker: &WorkerReport) -> Row<'static> {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    let exit = worker.last_exit.as_ref();
    let state = Cell::new(worker.state.clone()).style(match worker.state.as_str() {
        "waiting" => Style::new().fg(Color::Green),
        "processing" => Style::new().fg(Color::Cyan),
        _ => Style::new().fg(Color::Yellow),
    });
    Row::new([
        Cell::new(worker.slot.to_string()),
        Cell::new(or_dash(worker.pid.map(|pid| pid.to_string()))),
        state,
        Cell::new(age(worker.age_ms)),
        Cell::new(worker.requests.to_string()),
        Cell::new(or_dash(worker.processing_ms.map(|time| format!("{time}ms")))),
        Cell::new(or_dash(worker.private_bytes.map(memory))),
        Cell::new(or_dash(worker.shared_bytes.map(memory))),
        Cell::new(or_dash(exit.map(|exit| format!("{} ago: {}", age(exit.ago_ms), harmless(&exit.reason))))),
    ])
}

fn foot_line(view: &View) -> Words<'static> {
    let asking = Style::new().fg(Color::Black).bg(Color::Yellow);
    match &view.line {
        Line::Keys | Line::Help => Words::styled(KEYS, Style::new().add_modifier(Modifier::DIM)),
        Line::Sure(order) => Words::styled(format!("{} y/n", order.question()), asking),
        Line::Told(words) => Words::raw(harmless(words)),
    }
}

fn draw_help(frame: &mut Frame<'_>, area: Rect) {
    let height = u16::try_from(HELP.len()).unwrap_or(u16::MAX).saturating_add(2).min(area.height);
    let width = area.width.min(84);
    let place = Rect { x: area.x + (area.width - width) / 2, y: area.y, width, height };
    let words: Vec<Words<'_>> = HELP.iter().map(|line| Words::raw(*line)).collect();
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(words).block(Block::bordered().title("keys")), place);
}
