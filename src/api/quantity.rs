//! Resource quantities such as `250m`, `1.5Gi` and `12e6` (apimachinery `api/resource`).

use std::cmp::Ordering;
use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};
use std::str::FromStr;

use serde_json::Value;

/// In which family of suffixes a quantity was written, and is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `n u m k M G T P E`, powers of 1000.
    #[default]
    DecimalSi,
    /// `Ki Mi Gi Ti Pi Ei`, powers of 1024.
    BinarySi,
    /// `e3`, powers of 10.
    DecimalExponent,
}

/// Why a text is no quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// The text as a whole has the wrong shape.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// The number cannot be read.
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    /// The suffix is unknown.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

const NANO: i128 = 1_000_000_000;
/// Larger amounts are cut to this, as in Kubernetes: 2^63-1 units.
const MAX: i128 = i64::MAX as i128 * NANO;

/// An amount, exact to a billionth. Compares by amount, whatever the format.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

impl Quantity {
    /// Nothing.
    pub const ZERO: Quantity = Quantity {
        nanos: 0,
        format: Format::DecimalSi,
    };

    /// A whole number of units.
    pub fn new(value: i64, format: Format) -> Self {
        Self {
            nanos: i128::from(value) * NANO,
            format,
        }
    }

    /// A number of thousandths.
    pub fn from_milli(milli: i64) -> Self {
        Self {
            nanos: i128::from(milli) * (NANO / 1000),
            format: Format::DecimalSi,
        }
    }

    /// Reads a JSON string or number.
    ///
    /// # Errors
    /// When the text is no quantity, or the value is neither string nor number.
    pub fn from_json(value: &Value) -> Result<Self, QuantityError> {
        match value {
            Value::String(s) => s.trim().parse(),
            Value::Number(n) => n.to_string().parse(),
            _ => Err(QuantityError::Format),
        }
    }

    /// Whole units, rounded up (away from zero).
    pub fn value(&self) -> i64 {
        self.scaled(NANO)
    }

    /// Thousandths, rounded up (away from zero).
    pub fn milli(&self) -> i64 {
        self.scaled(NANO / 1000)
    }

    fn scaled(&self, unit: i128) -> i64 {
        let n = div_up(self.nanos, unit);
        i64::try_from(n).unwrap_or(if n < 0 { i64::MIN } else { i64::MAX })
    }

    /// The same amount, rounded up to thousandths, which is the finest that defaulting leaves.
    pub fn round_up_milli(self) -> Self {
        let unit = NANO / 1000;
        Self {
            nanos: div_up(self.nanos, unit) * unit,
            ..self
        }
    }

    /// Whether it is nothing.
    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// Whether it is less than nothing.
    pub fn is_negative(&self) -> bool {
        self.nanos < 0
    }

    /// Whether it is a whole number of units.
    pub fn is_whole(&self) -> bool {
        self.nanos % NANO == 0
    }

    /// Whether it is some number of times `unit`; everything is, of nothing.
    pub fn is_multiple_of(&self, unit: &Self) -> bool {
        unit.nanos == 0 || self.nanos % unit.nanos == 0
    }

    /// How it is printed.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Units as a floating-point number, for scores and metrics.
    pub fn as_f64(&self) -> f64 {
        self.nanos as f64 / NANO as f64
    }
}

/// The canonical text of a quantity.
///
/// # Errors
/// When the text is no quantity.
pub fn canonical(text: &str) -> Result<String, QuantityError> {
    Ok(text.parse::<Quantity>()?.to_string())
}

fn div_up(n: i128, unit: i128) -> i128 {
    n / unit + (n % unit).signum()
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(s: &str) -> Result<Self, QuantityError> {
        let (negative, rest) = match s.as_bytes().first() {
            Some(b'-') => (true, s.get(1..).unwrap_or("")),
            Some(b'+') => (false, s.get(1..).unwrap_or("")),
            Some(_) => (false, s),
            None => return Err(QuantityError::Format),
        };
        let split = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(split);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(if number.is_empty() {
                QuantityError::Format
            } else {
                QuantityError::Numeric
            });
        }
        let (format, base, exponent) = read_suffix(suffix)?;
        let nanos = amount(whole, fraction, base, exponent);
        Ok(Self {
            nanos: if negative { -nanos } else { nanos },
            format,
        })
    }
}

/// The format, the base (10 or 2) and the exponent that a suffix stands for.
fn read_suffix(suffix: &str) -> Result<(Format, u32, i32), QuantityError> {
    let decimal = |e| Ok((Format::DecimalSi, 10, e));
    let binary = |e| Ok((Format::BinarySi, 2, e));
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => read_exponent(suffix),
    }
}

fn read_exponent(suffix: &str) -> Result<(Format, u32, i32), QuantityError> {
    let allowed = |c: char| "eEinumkKMGTP+-".contains(c) || c.is_ascii_digit();
    if !suffix.chars().all(allowed) {
        return Err(QuantityError::Format);
    }
    let digits = suffix.strip_prefix(['e', 'E']).ok_or(QuantityError::Suffix)?;
    let exponent: i32 = digits.parse().map_err(|_| QuantityError::Suffix)?;
    Ok((Format::DecimalExponent, 10, exponent))
}

/// `whole.fraction * base^exponent` in nanos, rounded up, cut at [`MAX`].
fn amount(whole: &str, fraction: &str, base: u32, exponent: i32) -> i128 {
    let fraction = fraction.trim_end_matches('0');
    let digits: String = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return 0;
    }
    // The number is 0.DIGITS * 10^(digits + shift): far out of range either way needs no arithmetic.
    let shift = 9 - fraction.len() as i64 + if base == 10 { i64::from(exponent) } else { 0 };
    let magnitude = digits.len() as i64 + shift;
    if magnitude > 30 {
        return MAX;
    }
    if magnitude < -20 {
        return 1;
    }
    let (kept, cut) = digits.split_at(digits.len().min(30));
    let lost = cut.bytes().any(|b| b != b'0');
    let mut n: i128 = kept.parse().unwrap_or(MAX);
    let shift = shift + cut.len() as i64;
    let binary = if base == 2 {
        1_i128 << exponent.clamp(0, 60)
    } else {
        1
    };
    let tens = 10_i128
        .checked_pow(shift.unsigned_abs() as u32)
        .unwrap_or(i128::MAX);
    if shift >= 0 {
        n = n.saturating_mul(tens).saturating_mul(binary);
    } else {
        // Divide last, and avoid overflow for long fractions with large suffixes.
        n = match n.checked_mul(binary) {
            Some(product) => div_up(product, tens),
            None => div_up(n, tens).saturating_mul(binary),
        };
    }
    if lost && shift < 0 {
        n = n.saturating_add(1);
    }
    n.min(MAX)
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let small = self.nanos.abs() < 1024 * NANO;
        if self.format == Format::BinarySi && !small && self.is_whole() {
            return write_binary(f, self.nanos / NANO);
        }
        let mut mantissa = self.nanos;
        let mut exponent = -9;
        while mantissa % 1000 == 0 && exponent < 18 {
            mantissa /= 1000;
            exponent += 3;
        }
        if self.format == Format::DecimalExponent {
            return if exponent == 0 {
                write!(f, "{mantissa}")
            } else {
                write!(f, "{mantissa}e{exponent}")
            };
        }
        const SUFFIXES: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
        let suffix = SUFFIXES.get(((exponent + 9) / 3) as usize).copied().unwrap_or("");
        write!(f, "{mantissa}{suffix}")
    }
}

fn write_binary(f: &mut fmt::Formatter<'_>, mut units: i128) -> fmt::Result {
    let mut suffixes = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].into_iter();
    let mut suffix = suffixes.next().unwrap_or("");
    while units % 1024 == 0 {
        let Some(next) = suffixes.next() else { break };
        units /= 1024;
        suffix = next;
    }
    write!(f, "{units}{suffix}")
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl Add for Quantity {
    type Output = Quantity;

    /// The sum, in the format of the first that is not zero.
    fn add(self, other: Quantity) -> Quantity {
        let format = if self.is_zero() { other.format } else { self.format };
        Quantity {
            nanos: (self.nanos + other.nanos).clamp(-MAX, MAX),
            format,
        }
    }
}

impl Sub for Quantity {
    type Output = Quantity;

    fn sub(self, other: Quantity) -> Quantity {
        self + -other
    }
}

impl Neg for Quantity {
    type Output = Quantity;

    fn neg(self) -> Quantity {
        Quantity {
            nanos: -self.nanos,
            ..self
        }
    }
}

impl AddAssign for Quantity {
    fn add_assign(&mut self, other: Quantity) {
        *self = *self + other;
    }
}

impl SubAssign for Quantity {
    fn sub_assign(&mut self, other: Quantity) {
        *self = *self - other;
    }
}

impl Sum for Quantity {
    fn sum<I: Iterator<Item = Quantity>>(quantities: I) -> Quantity {
        quantities.fold(Quantity::ZERO, Add::add)
    }
}

impl From<&Quantity> for k8s_openapi::apimachinery::pkg::api::resource::Quantity {
    fn from(quantity: &Quantity) -> Self {
        Self(quantity.to_string())
    }
}

impl TryFrom<&k8s_openapi::apimachinery::pkg::api::resource::Quantity> for Quantity {
    type Error = QuantityError;

    fn try_from(
        quantity: &k8s_openapi::apimachinery::pkg::api::resource::Quantity,
    ) -> Result<Self, QuantityError> {
        quantity.0.trim().parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn q(s: &str) -> Quantity {
        s.parse().unwrap()
    }

    #[test]
    fn canonical_forms() {
        for (text, canonical) in [
            ("0", "0"),
            ("0Ki", "0"),
            ("1", "1"),
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1.5", "1500m"),
            (".5", "500m"),
            ("5.", "5"),
            ("+1", "1"),
            ("-1.5Gi", "-1536Mi"),
            ("100000", "100k"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("1Ki", "1Ki"),
            ("1000Ki", "1000Ki"),
            ("0.5Ki", "512"),
            ("0.1Ki", "102400m"),
            ("12e6", "12e6"),
            ("1E3", "1e3"),
            ("1e-3", "1e-3"),
            ("100e-1", "10"),
            ("1E", "1E"),
            ("1n", "1n"),
            ("0.1n", "1n"),
            ("1.0000000001", "1000000001n"),
            ("9223372036854775807", "9223372036854775807"),
            ("100E", "9223372036854775807"),
            ("1e400", "9223372036854775807e0"),
            ("8Ei", "9223372036854775807"),
            ("1e-400", "1e-9"),
        ] {
            let expected = canonical.strip_suffix("e0").unwrap_or(canonical);
            assert_eq!(q(text).to_string(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity() {
        for (text, error) in [
            ("", QuantityError::Format),
            ("abc", QuantityError::Format),
            ("1 Gi", QuantityError::Format),
            ("1.2.3", QuantityError::Numeric),
            (".", QuantityError::Numeric),
            ("1ki", QuantityError::Suffix),
            ("1mi", QuantityError::Suffix),
            ("1KK", QuantityError::Suffix),
            ("1e", QuantityError::Suffix),
            ("1X", QuantityError::Format),
        ] {
            assert_eq!(text.parse::<Quantity>().unwrap_err(), error, "{text:?}");
        }
    }

    #[test]
    fn arithmetic_rounds_up_and_keeps_the_first_format() {
        assert_eq!(q("1m").value(), 1);
        assert_eq!(q("1500m").value(), 2);
        assert_eq!(q("-1500m").value(), -2);
        assert_eq!(q("100u").milli(), 1);
        assert_eq!((q("0") + q("1Gi") + q("512Mi")).to_string(), "1536Mi");
        assert_eq!((q("1") - q("250m")).to_string(), "750m");
        assert!(q("1Gi") > q("1G") && q("1000m") == q("1"));
        assert_eq!(q("1500u").round_up_milli().to_string(), "2m");
        assert_eq!(Quantity::from_json(&serde_json::json!(2)).unwrap(), q("2"));
    }

    proptest::proptest! {
        #[test]
        fn never_panics_and_canonical_text_is_stable(s in "[-+]?[0-9.]{0,40}[eEinumkKMGTP]{0,3}[-+]?[0-9]{0,4}") {
            if let Ok(quantity) = s.parse::<Quantity>() {
                let text = quantity.to_string();
                proptest::prop_assert_eq!(text.parse::<Quantity>().unwrap().to_string(), text);
            }
        }
    }
}
