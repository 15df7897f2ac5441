//! The time that a template sees, and C's way of writing it.

use minijinja::{Error, ErrorKind};

/// The local time that `strftime_now` shows.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Now {
    pub year: i32,
    pub month: i32,
    pub day: i32,
    pub hour: i32,
    pub minute: i32,
    pub second: i32,
    /// Days since Sunday.
    pub weekday: i32,
    /// Day of the year from 1.
    pub yearday: i32,
    /// Seconds east of UTC.
    pub offset: i32,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

/// Formats the local time as C's strftime does in the C locale.
pub fn strftime(format: &str, now: Now) -> Result<String, Error> {
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut spec = chars.next().unwrap_or('%');
        let bare = spec == '-';
        if bare {
            spec = chars.next().unwrap_or('%');
        }
        let field = time_field(spec, now)?;
        let shown = if bare {
            field.trim_start_matches(['0', ' '])
        } else {
            &field
        };
        out.push_str(if bare && shown.is_empty() { "0" } else { shown });
    }
    Ok(out)
}

fn time_field(spec: char, now: Now) -> Result<String, Error> {
    let month = MONTHS
        .get((now.month as usize).wrapping_sub(1))
        .copied()
        .unwrap_or("January");
    let day = DAYS.get(now.weekday as usize).copied().unwrap_or("Sunday");
    let hour12 = (now.hour + 11) % 12 + 1;
    let offset = now.offset.abs() / 60;
    Ok(match spec {
        'Y' => now.year.to_string(),
        'y' => format!("{:02}", now.year.rem_euclid(100)),
        'm' => format!("{:02}", now.month),
        'd' => format!("{:02}", now.day),
        'e' => format!("{:2}", now.day),
        'H' => format!("{:02}", now.hour),
        'I' => format!("{hour12:02}"),
        'M' => format!("{:02}", now.minute),
        'S' => format!("{:02}", now.second),
        'f' => "000000".into(),
        'p' => if now.hour < 12 { "AM" } else { "PM" }.into(),
        'B' => month.into(),
        'b' | 'h' => month[..3].into(),
        'A' => day.into(),
        'a' => day[..3].into(),
        'j' => format!("{:03}", now.yearday),
        'w' => now.weekday.to_string(),
        'u' => (if now.weekday == 0 { 7 } else { now.weekday }).to_string(),
        'z' => format!(
            "{}{:02}{:02}",
            if now.offset < 0 { '-' } else { '+' },
            offset / 60,
            offset % 60
        ),
        'Z' => String::new(),
        'F' => strftime("%Y-%m-%d", now)?,
        'D' | 'x' => strftime("%m/%d/%y", now)?,
        'T' | 'X' => strftime("%H:%M:%S", now)?,
        'R' => strftime("%H:%M", now)?,
        'c' => strftime("%a %b %e %H:%M:%S %Y", now)?,
        'n' => "\n".into(),
        't' => "\t".into(),
        '%' => "%".into(),
        other => {
            let detail = format!("strftime_now: unknown format %{other}");
            return Err(Error::new(ErrorKind::InvalidOperation, detail));
        }
    })
}
