//! Numbers in words.

/// With as many digits as say something.
pub fn number(value: f64) -> String {
    match value.abs() {
        1000.0.. => grouped(value),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_say_something() {
        let cases = [
            (0.913, "0.91"),
            (12.34, "12.3"),
            (123.4, "123"),
            (8_412.6, "8,413"),
            (1_000_000.0, "1,000,000"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }
}
