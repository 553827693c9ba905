//! Numbers as people read them.

/// About three digits: decimals for small numbers, none for large ones.
pub fn number(value: f64) -> String {
    if value == 0.0 {
        "0".into()
    } else if value.abs() < 0.001 {
        format!("{value:.1e}")
    } else if value.abs() < 1.0 {
        format!("{value:.3}")
    } else if value.abs() < 10.0 {
        format!("{value:.2}")
    } else if value.abs() < 1000.0 {
        format!("{value:.1}")
    } else if value.abs() < 1e15 {
        grouped(&format!("{value:.0}"))
    } else {
        format!("{value:.2e}")
    }
}

/// A count, its digits in groups of three.
pub fn thousands(count: u64) -> String {
    grouped(&count.to_string())
}

/// Bytes as people read them, powers of 1000.
pub fn bytes(count: u64) -> String {
    byte_size(count as f64)
}

/// The same for a mean.
pub fn byte_size(value: f64) -> String {
    match value {
        v if v < 1e3 => format!("{v:.0} B"),
        v if v < 1e6 => format!("{} kB", number(v / 1e3)),
        v if v < 1e9 => format!("{} MB", number(v / 1e6)),
        v => format!("{} GB", number(v / 1e9)),
    }
}

/// A share as per cent; the smallest ones keep their order of magnitude.
pub fn percent(share: f64) -> String {
    format!("{} %", number(share * 100.0))
}

/// A share near one as per cent: two digits beyond its nines, and never more than it is.
pub fn available(share: f64) -> String {
    let missing = (1.0 - share) * 100.0;
    if missing <= 0.0 {
        return "100 %".into();
    }
    let decimals = (1..=9).find(|decimals| missing * 10f64.powi(*decimals) >= 10.0).unwrap_or(9);
    let scale = 10f64.powi(decimals);
    let decimals = usize::try_from(decimals).unwrap_or_default();
    format!("{:.decimals$} %", (share * 100.0 * scale).floor() / scale)
}

/// Seconds as people read them.
pub fn seconds(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..600_000 => format!("{} s", short(ms as f64 / 1e3)),
        600_000..7_200_000 => format!("{:.1} min", ms as f64 / 6e4),
        _ => format!("{:.1} h", ms as f64 / 3.6e6),
    }
}

/// As few digits as the value needs, for the ticks of an axis: "0.5", "250", "1.2k", "3M".
pub fn short(value: f64) -> String {
    let (scaled, suffix) = match value.abs() {
        v if v >= 1e9 => (value / 1e9, "G"),
        v if v >= 1e6 => (value / 1e6, "M"),
        v if v >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    if scaled != 0.0 && scaled.abs() < 0.001 {
        return format!("{scaled:.0e}");
    }
    let fixed = format!("{scaled:.3}");
    format!("{}{suffix}", fixed.trim_end_matches('0').trim_end_matches('.'))
}

/// A comma before each group of three digits of a whole number, which may be negative.
fn grouped(digits: &str) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |rest| ("-", rest));
    let mut text = String::from(sign);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_scaled() {
        assert_eq!([bytes(999), bytes(15_600), bytes(2_500_000)], ["999 B", "15.6 kB", "2.50 MB"]);
    }

    #[test]
    fn numbers_keep_the_digits_that_matter() {
        assert_eq!([number(0.0), number(0.00041), number(0.0432)], ["0", "4.1e-4", "0.043"]);
        assert_eq!([number(812.04), number(1234.5), number(-1_234_567.0)], ["812.0", "1,234", "-1,234,567"]);
        assert_eq!([thousands(0), thousands(999), thousands(1_000_000)], ["0", "999", "1,000,000"]);
    }

    #[test]
    fn availability_is_never_rounded_up_to_more_nines() {
        let shown = [1.0, 0.999_996, 0.99987, 0.9994, 0.5, 0.0].map(available);
        assert_eq!(shown, ["100 %", "99.99960 %", "99.987 %", "99.940 %", "50.0 %", "0.0 %"]);
    }

    #[test]
    fn ticks_are_short() {
        assert_eq!([short(0.0), short(0.25), short(1500.0)], ["0", "0.25", "1500"]);
        assert_eq!([short(12_000.0), short(2_500_000.0), short(0.0001)], ["12k", "2.5M", "1e-4"]);
    }

    #[test]
    fn times_have_a_fitting_unit() {
        assert_eq!([seconds(250), seconds(1_500), seconds(900_000)], ["250 ms", "1.5 s", "15.0 min"]);
    }
}
