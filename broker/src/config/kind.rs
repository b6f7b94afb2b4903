//! What a configuration value may be.

/// Type of a value, with its bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number that fits 32 bits.
    Int {
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
    },
    /// A whole number.
    Long {
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
    },
    /// A number with a fraction.
    Double {
        /// Smallest.
        min: f64,
        /// Largest.
        max: f64,
    },
    /// Any text.
    Text,
    /// Texts between commas.
    List,
    /// One of these.
    Choice(&'static [&'static str]),
    /// Some of these, between commas.
    Choices(&'static [&'static str]),
}

impl Kind {
    /// Kafka's number for the type, as DescribeConfigs tells it (KIP-569).
    pub fn config_type(self) -> i8 {
        match self {
            Self::Bool => 1,
            Self::Text | Self::Choice(_) => 2,
            Self::Int { .. } => 3,
            Self::Long { .. } => 5,
            Self::Double { .. } => 6,
            Self::List | Self::Choices(_) => 7,
        }
    }

    /// Checks `value` and gives it as it is kept: trimmed, lists without blanks.
    ///
    /// # Errors
    /// Says what would be right.
    pub fn check(self, value: &str) -> Result<String, String> {
        let value = value.trim();
        match self {
            Self::Bool => match value.to_ascii_lowercase().as_str() {
                "true" => Ok("true".to_owned()),
                "false" => Ok("false".to_owned()),
                _ => Err(format!("{value:?} is neither true nor false")),
            },
            Self::Int { min, max } | Self::Long { min, max } => match value.parse::<i64>() {
                Ok(number) if number < min => Err(format!("{number} is below {min}")),
                Ok(number) if number > max => Err(format!("{number} is above {max}")),
                Ok(number) => Ok(number.to_string()),
                Err(_) => Err(format!("Not a number of type {}", self.kafka_type())),
            },
            Self::Double { min, max } => match value.parse::<f64>() {
                Ok(number) if number >= min && number <= max => Ok(value.to_owned()),
                Ok(number) => Err(format!("{number} is not between {min} and {max}")),
                Err(_) => Err(format!("{value:?} is not a number")),
            },
            Self::Text => Ok(value.to_owned()),
            Self::List => Ok(items(value).collect::<Vec<_>>().join(",")),
            Self::Choice(choices) if choices.contains(&value) => Ok(value.to_owned()),
            Self::Choice(choices) => Err(format!("{value:?} is none of {}", choices.join(", "))),
            Self::Choices(choices) => {
                let chosen: Vec<&str> = items(value).collect();
                match chosen.iter().find(|item| !choices.contains(item)) {
                    Some(item) => Err(format!("{item:?} is none of {}", choices.join(", "))),
                    None => Ok(chosen.join(",")),
                }
            }
        }
    }

    /// Kafka's name of the type, in capitals.
    fn kafka_type(self) -> &'static str {
        match self {
            Self::Bool => "BOOLEAN",
            Self::Text | Self::Choice(_) => "STRING",
            Self::Int { .. } => "INT",
            Self::Long { .. } => "LONG",
            Self::Double { .. } => "DOUBLE",
            Self::List | Self::Choices(_) => "LIST",
        }
    }

    /// How help names the type.
    pub fn describe(self) -> String {
        match self {
            Self::Bool => "true or false".to_owned(),
            Self::Int { min, max } => bounds("int", min, max, i64::from(i32::MAX)),
            Self::Long { min, max } => bounds("long", min, max, i64::MAX),
            Self::Double { min, max } => format!("number, {min} to {max}"),
            Self::Text => "text".to_owned(),
            Self::List => "list".to_owned(),
            Self::Choice(choices) => choices.join(" | "),
            Self::Choices(choices) => format!("list of {}", choices.join(", ")),
        }
    }
}

fn bounds(name: &str, min: i64, max: i64, unbounded: i64) -> String {
    if max >= unbounded {
        format!("{name}, from {min}")
    } else {
        format!("{name}, {min} to {max}")
    }
}

/// What stands between the commas of `list`, without blanks and empty items.
pub fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked_and_put_in_order() {
        let int = Kind::Int { min: 1, max: 10 };
        assert_eq!(int.check(" 7 "), Ok("7".to_owned()));
        assert!(int.check("0").is_err() && int.check("11").is_err() && int.check("x").is_err());
        assert_eq!(Kind::Bool.check("TRUE"), Ok("true".to_owned()));
        assert!(Kind::Bool.check("yes").is_err());
        assert_eq!(Kind::List.check(" a, ,b "), Ok("a,b".to_owned()));
        let policies = Kind::Choices(&["compact", "delete"]);
        assert_eq!(
            policies.check("compact , delete"),
            Ok("compact,delete".to_owned())
        );
        assert!(policies.check("compact,burn").is_err());
        assert!(Kind::Choice(&["disk"]).check("tape").is_err());
        assert!(Kind::Double { min: 0.0, max: 1.0 }.check("NaN").is_err());
    }
}
