//! Charts as SVG: where things are drawn. Pure; how they look is in the templates and the style sheet.
//!
//! Every chart has a title, a sentence that says what it shows, and the same figures as a table beside it.

use chrono::TimeDelta;
use multicredit_domain::forecast::Course;
use multicredit_domain::{TimeZone, Timestamp, UsageBucket};

use super::show::{Kind, number, short};

/// A label on an axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Tick {
    pub at: f64,
    pub label: String,
    /// `start`, `middle` or `end`.
    pub anchor: &'static str,
}

/// A point that was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Dot {
    pub x: f64,
    pub y: f64,
    pub label: String,
}

/// How one type went down, and how it will.
#[derive(Debug)]
pub struct BurnDown {
    pub kind: Kind,
    pub title: String,
    pub summary: String,
    pub area: String,
    pub past: String,
    pub future: String,
    pub dots: Vec<Dot>,
    pub now_x: f64,
    pub run_out: Option<Dot>,
    pub y_ticks: Vec<Tick>,
    pub x_ticks: Vec<Tick>,
    /// Time and amount, as they stand in the table.
    pub rows: Vec<(String, String)>,
}

/// The size of a burn-down, in units of its own; the page decides how large one is.
pub const BURN_WIDTH: f64 = 400.0;
pub const BURN_HEIGHT: f64 = 190.0;
const BURN: Plot = Plot { left: 40.0, right: 392.0, top: 14.0, bottom: 160.0 };

/// The size of a chart of usage.
pub const BARS_WIDTH: f64 = 800.0;
pub const BARS_HEIGHT: f64 = 220.0;
const BARS: Plot = Plot { left: 44.0, right: 796.0, top: 14.0, bottom: 184.0 };

/// The size of a row's little chart.
pub const SPARK_WIDTH: f64 = 120.0;
pub const SPARK_HEIGHT: f64 = 28.0;

/// The rectangle in which data stand.
struct Plot {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl Plot {
    /// Where an instant is.
    #[expect(clippy::cast_precision_loss, reason = "pixels")]
    fn x(&self, at: Timestamp, (start, end): (Timestamp, Timestamp)) -> f64 {
        let share = (at - start).num_milliseconds() as f64 / ((end - start).num_milliseconds() as f64).max(1.0);
        rounded(self.left + share.clamp(0.0, 1.0) * (self.right - self.left))
    }

    /// Where an amount is.
    #[expect(clippy::cast_precision_loss, reason = "pixels")]
    fn y(&self, amount: i128, top: i128) -> f64 {
        rounded(self.bottom - (amount as f64 / (top as f64).max(1.0)) * (self.bottom - self.top))
    }
}

/// To a tenth of a unit: finer than any screen, and short.
fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// The round number that is not less than it, and whose half is round as well.
pub fn round_up(value: i128) -> i128 {
    if value <= 4 {
        return value.max(1);
    }
    let mut scale: i128 = 1;
    while scale * 10 < value {
        scale *= 10;
    }
    let steps = [10, 20, 25, 40, 50, 60, 80, 100].map(|tenths| scale * tenths / 10);
    steps.into_iter().find(|step| *step >= value).unwrap_or(value)
}

/// What a burn-down is made of.
pub struct Burn<'a> {
    pub kind: Kind,
    /// The amounts of the past, oldest first; the last is now.
    pub past: &'a [(Timestamp, i64)],
    /// The forecast from now on.
    pub course: &'a Course,
    pub runs_out_at: Option<Timestamp>,
    pub per_day: i64,
    /// Until when to look ahead.
    pub end: Timestamp,
}

/// Draws how one type goes down; `None` if there is nothing to draw, past or present.
pub fn burn_down(burn: &Burn<'_>) -> Option<BurnDown> {
    let (first, last) = (burn.past.first()?, burn.past.last()?);
    let highest = burn.past.iter().map(|(_, amount)| i128::from(*amount)).max()?;
    let future = ahead(burn.course, last.0, burn.end);
    let top = round_up(highest.max(future.iter().map(|(_, amount)| *amount).max().unwrap_or_default()));
    if highest == 0 && future.iter().all(|(_, amount)| *amount == 0) {
        return None;
    }
    let range = (first.0, burn.end);
    let place = |at: Timestamp, amount: i128| (BURN.x(at, range), BURN.y(amount, top));
    let line = |points: &[(Timestamp, i128)]| {
        let points = points.iter().map(|(at, amount)| {
            let (x, y) = place(*at, *amount);
            format!("{x},{y}")
        });
        points.collect::<Vec<_>>().join(" ")
    };
    let past: Vec<(Timestamp, i128)> = burn.past.iter().map(|(at, amount)| (*at, i128::from(*amount))).collect();
    let dot = |(at, amount): &(Timestamp, i128)| {
        let (x, y) = place(*at, *amount);
        Dot { x, y, label: format!("{}: {}", stamp(*at), number(*amount)) }
    };
    let now_x = BURN.x(last.0, range);
    let past_line = line(&past);
    let run_out = burn.runs_out_at.filter(|at| *at <= burn.end && burn.per_day > 0 && last.1 > 0);
    let mut rows: Vec<(String, String)> = past.iter().map(|(at, amount)| (stamp(*at), number(*amount))).collect();
    rows.extend(future.iter().skip(1).map(|(at, amount)| (format!("{} (forecast)", stamp(*at)), number(*amount))));
    Some(BurnDown {
        kind: burn.kind,
        title: format!("{} credits: balance and forecast", burn.kind.name()),
        summary: summary(burn, first.1, last.1),
        area: format!("{},{} {past_line} {now_x},{}", BURN.left, BURN.bottom, BURN.bottom),
        past: past_line,
        future: line(&future),
        dots: past.iter().map(dot).collect(),
        now_x,
        run_out: run_out.map(|at| {
            let (x, y) = place(at, 0);
            Dot { x, y, label: format!("runs out {}", stamp(at)) }
        }),
        y_ticks: y_ticks(&BURN, top),
        x_ticks: x_ticks(range, now_x),
        rows,
    })
}

fn summary(burn: &Burn<'_>, first: i64, last: i64) -> String {
    let outlook = match burn.runs_out_at {
        Some(at) if burn.per_day > 0 && last > 0 => {
            format!("at {} a day it runs out {}", number(burn.per_day), stamp(at))
        }
        _ if last == 0 => "there is nothing left".to_owned(),
        Some(at) => format!("nothing was spent of late; what there is expires {}", stamp(at)),
        None => "at the present rate it does not run out".to_owned(),
    };
    format!("From {} to {}; {outlook}.", number(first), number(last))
}

/// The forecast as far as it is shown.
fn ahead(course: &Course, now: Timestamp, end: Timestamp) -> Vec<(Timestamp, i128)> {
    let mut points: Vec<(Timestamp, i128)> = Vec::new();
    for &(at, amount) in course {
        if at > end {
            // The line leaves the chart on its way there.
            if let Some(&(from, before)) = points.last() {
                points.push((end, between((from, before), (at, amount), end)));
            }
            return points;
        }
        points.push((at.max(now), amount));
    }
    if let Some(&(at, amount)) = points.last()
        && at < end
    {
        points.push((end, amount));
    }
    points
}

/// The amount at an instant of a straight line.
fn between(from: (Timestamp, i128), to: (Timestamp, i128), at: Timestamp) -> i128 {
    let whole = i128::from((to.0 - from.0).num_milliseconds()).max(1);
    let part = i128::from((at - from.0).num_milliseconds());
    from.1 + (to.1 - from.1) * part / whole
}

fn stamp(at: Timestamp) -> String {
    at.format("%-d %b %Y, %H:%M").to_string()
}

fn y_ticks(plot: &Plot, top: i128) -> Vec<Tick> {
    let amounts = if top >= 4 { vec![0, top / 2, top] } else { vec![0, top] };
    let ticks = amounts.into_iter().map(|amount| Tick { at: plot.y(amount, top), label: short(amount), anchor: "end" });
    ticks.collect()
}

/// The first and last day, and the present in between where there is room for it.
fn x_ticks((start, end): (Timestamp, Timestamp), now_x: f64) -> Vec<Tick> {
    let format = if end - start < TimeDelta::days(4) { "%-d %b %H:%M" } else { "%-d %b" };
    let label = |at: Timestamp| at.format(format).to_string();
    let room = if end - start < TimeDelta::days(4) { 95.0 } else { 62.0 };
    let mut ticks = vec![Tick { at: BURN.left, label: label(start), anchor: "start" }];
    if now_x > BURN.left + room && now_x < BURN.right - room {
        ticks.push(Tick { at: now_x, label: "now".to_owned(), anchor: "middle" });
    }
    ticks.push(Tick { at: BURN.right, label: label(end), anchor: "end" });
    ticks
}

/// A bucket of usage.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bucket {
    pub count: i64,
    pub refused: i64,
}

/// A bar, with what was refused on top of what was done.
#[derive(Debug)]
pub struct Bar {
    pub x: f64,
    pub width: f64,
    pub y: f64,
    pub height: f64,
    pub refused_y: f64,
    pub refused_height: f64,
    pub label: String,
}

/// Usage by time.
#[derive(Debug)]
pub struct Bars {
    pub title: String,
    pub summary: String,
    pub columns: Vec<Bar>,
    pub y_ticks: Vec<Tick>,
    pub x_ticks: Vec<Tick>,
    /// When, how many, and how many refused; those in which something happened.
    pub rows: Vec<(String, String, String)>,
}

/// What a bucket is called.
pub fn bucket_name(bucket: UsageBucket, zone: &TimeZone, start: Timestamp) -> String {
    let format = match bucket {
        UsageBucket::Hour => "%-d %b, %H:%M",
        UsageBucket::Day => "%a %-d %b",
        UsageBucket::Month => "%b %Y",
    };
    zone.wall_clock(start).format(format).to_string()
}

/// Draws usage by time; the buckets come with their names, in their order.
#[expect(clippy::cast_precision_loss, reason = "pixels")]
pub fn bars(title: String, buckets: &[(String, Bucket)]) -> Bars {
    let top = buckets.iter().map(|(_, bucket)| i128::from(bucket.count + bucket.refused)).max().unwrap_or_default();
    let top = round_up(top);
    let step = (BARS.right - BARS.left) / buckets.len().max(1) as f64;
    let width = rounded((step * 0.72).min(48.0));
    let draw = |(index, (name, bucket)): (usize, &(String, Bucket))| {
        let y = BARS.y(bucket.count.into(), top);
        let refused_y = BARS.y(i128::from(bucket.count + bucket.refused), top);
        Bar {
            x: rounded(BARS.left + step * index as f64 + (step - width) / 2.0),
            width,
            y,
            height: rounded(BARS.bottom - y),
            refused_y,
            refused_height: rounded(y - refused_y),
            label: format!("{name}: {} succeeded, {} refused", number(bucket.count), number(bucket.refused)),
        }
    };
    let count: i64 = buckets.iter().map(|(_, bucket)| bucket.count).sum();
    let refused: i64 = buckets.iter().map(|(_, bucket)| bucket.refused).sum();
    let happened = buckets.iter().filter(|(_, bucket)| bucket.count + bucket.refused > 0);
    Bars {
        title,
        summary: format!("{} consumptions succeeded and {} were refused.", number(count), number(refused)),
        columns: buckets.iter().enumerate().map(draw).collect(),
        y_ticks: y_ticks(&BARS, top),
        x_ticks: bucket_ticks(buckets, step),
        rows: happened.map(|(name, it)| (name.clone(), number(it.count), number(it.refused))).collect(),
    }
}

/// The first, the middle and the last bucket.
#[expect(clippy::cast_precision_loss, reason = "pixels")]
fn bucket_ticks(buckets: &[(String, Bucket)], step: f64) -> Vec<Tick> {
    let Some(last) = buckets.len().checked_sub(1) else { return Vec::new() };
    let label = |index: usize| buckets.get(index).map(|(name, _)| name.clone()).unwrap_or_default();
    let middle = |index: usize| rounded(BARS.left + step * (index as f64 + 0.5));
    let mut ticks = vec![Tick { at: BARS.left, label: label(0), anchor: "start" }];
    if last >= 2 {
        ticks.push(Tick { at: middle(last / 2), label: label(last / 2), anchor: "middle" });
    }
    if last >= 1 {
        ticks.push(Tick { at: BARS.right, label: label(last), anchor: "end" });
    }
    ticks
}

/// A row's little chart: a bar for each bucket, as high as the highest of the row allows. Answers x, y and height.
#[expect(clippy::cast_precision_loss, reason = "pixels")]
pub fn spark(counts: &[i64]) -> Vec<(f64, f64, f64)> {
    let top = counts.iter().copied().max().unwrap_or_default().max(1) as f64;
    let step = SPARK_WIDTH / counts.len().max(1) as f64;
    let bar = |(index, count): (usize, &i64)| {
        // What is there is seen, however little it is beside the rest.
        let height = if *count == 0 { 0.0 } else { (*count as f64 / top * SPARK_HEIGHT).max(1.5) };
        (rounded(step * index as f64), rounded(SPARK_HEIGHT - height), rounded(height))
    };
    counts.iter().enumerate().map(bar).filter(|(_, _, height)| *height > 0.0).collect()
}

#[cfg(test)]
mod tests {
    use multicredit_domain::CreditType;

    use super::*;

    fn day(number: i64) -> Timestamp {
        "2026-12-01T00:00:00Z".parse::<Timestamp>().unwrap() + TimeDelta::days(number - 1)
    }

    #[test]
    fn axes_end_at_round_numbers() {
        let ends = [0, 1, 3, 7, 11, 26, 100, 101, 6_200, 9_999].map(round_up);
        assert_eq!(ends, [1, 1, 3, 8, 20, 40, 100, 200, 8_000, 10_000]);
    }

    #[test]
    fn a_burn_down_has_a_point_for_each_balance_and_ends_where_the_credits_do() {
        let past = [(day(1), 100), (day(6), 50), (day(11), 40)];
        let course = vec![(day(11), 40), (day(15), 0)];
        let burn = Burn {
            kind: Kind(CreditType::Ai),
            past: &past,
            course: &course,
            runs_out_at: Some(day(15)),
            per_day: 10,
            end: day(21),
        };
        let chart = burn_down(&burn).unwrap();
        assert_eq!(chart.dots.len(), 3);
        assert_eq!((chart.dots[0].x, chart.dots[0].y), (BURN.left, BURN.top));
        let middle = f64::midpoint(BURN.left, BURN.right);
        assert_eq!((chart.now_x, chart.dots[2].x), (middle, middle));
        let end = chart.run_out.unwrap();
        assert_eq!((end.y, end.label.as_str()), (BURN.bottom, "runs out 15 Dec 2026, 00:00"));
        assert_eq!(chart.future.split(' ').count(), 3, "now, the end, and nothing until the edge: {}", chart.future);
        assert_eq!(chart.rows.len(), 5);
        let nothing = [(day(1), 0), (day(2), 0)];
        let course = vec![(day(2), 0)];
        assert!(
            burn_down(&Burn { past: &nothing, course: &course, runs_out_at: Some(day(2)), per_day: 0, ..burn })
                .is_none()
        );
    }

    #[test]
    fn a_forecast_that_leaves_the_chart_is_cut_at_its_edge() {
        let course = vec![(day(1), 100), (day(11), 0)];
        assert_eq!(ahead(&course, day(1), day(6)), [(day(1), 100), (day(6), 50)]);
        assert_eq!(ahead(&vec![(day(1), 7)], day(1), day(6)), [(day(1), 7), (day(6), 7)]);
    }

    #[test]
    fn bars_stand_on_the_ground_with_refusals_on_top() {
        let bucket = |count, refused| ("a".to_owned(), Bucket { count, refused });
        let chart = bars("t".to_owned(), &[bucket(10, 0), bucket(5, 5), bucket(0, 0)]);
        let [first, second, third] = &chart.columns[..] else { panic!("{chart:?}") };
        assert_eq!((first.y, first.y + first.height), (BARS.top, BARS.bottom));
        assert_eq!((second.refused_y, second.refused_y + second.refused_height), (BARS.top, second.y));
        assert_eq!((third.height, third.refused_height), (0.0, 0.0));
        assert_eq!(chart.rows.len(), 2);
        assert_eq!(spark(&[0, 10, 1]).len(), 2);
    }
}
