//! The files, and as much of their formats as is needed to read them.

use std::fs;

/// The repository.
pub(crate) fn root() -> String {
    format!("{}/../..", env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn text(path: &str) -> String {
    let text = fs::read_to_string(format!("{}/{path}", root()));
    text.unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The arguments of every instruction of this name, its lines joined.
pub(crate) fn dockerfile(instruction: &str) -> Vec<String> {
    let text = text("Dockerfile");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let joined = lines.collect::<Vec<_>>().join("\n").replace("\\\n", " ");
    let mut found = Vec::new();
    for line in joined.lines().filter(|line| !line.trim().is_empty()) {
        let (name, rest) = line
            .split_once(' ')
            .expect("an instruction and its arguments");
        let is_known = [
            "FROM",
            "RUN",
            "WORKDIR",
            "COPY",
            "USER",
            "ENV",
            "EXPOSE",
            "HEALTHCHECK",
            "ENTRYPOINT",
            "CMD",
        ]
        .contains(&name);
        assert!(is_known, "Dockerfile: {line}");
        if name == instruction {
            found.push(rest.trim().to_owned());
        }
    }
    found
}

/// The command in `… ["/duologue", "health"]`, as one would type it.
pub(crate) fn exec_form(line: &str) -> String {
    let start = line
        .find('[')
        .unwrap_or_else(|| panic!("no exec form: {line}"));
    let words: Vec<String> = serde_json::from_str(&line[start..]).expect("a list of texts");
    words.join(" ")
}

/// The lines of a YAML file without comments. They are checked to be of the simple kind that every
/// reader takes for the same: pairs and lists, indented by two, and no tabs.
pub(crate) fn yaml_lines(path: &str) -> Vec<String> {
    let text = text(path);
    let lines = text.lines().filter(|line| {
        let line = line.trim_start();
        !line.is_empty() && !line.starts_with('#')
    });
    let lines: Vec<String> = lines.map(str::to_owned).collect();
    let mut depth = 0;
    for line in &lines {
        let content = line.trim_start_matches(' ');
        let indent = line.len() - content.len();
        assert!(
            !line.contains('\t') && indent.is_multiple_of(2),
            "{path}: {line}"
        );
        assert!(indent <= depth + 2, "{path}: {line}");
        // What follows `- ` is one level deeper.
        let (item, content) = match content.strip_prefix("- ") {
            Some(item) => (2, item),
            None => (0, content),
        };
        let is_pair = content.split_once(": ").is_some() || content.ends_with(':');
        assert!(is_pair || item > 0, "{path}: {line}");
        depth = indent + item;
    }
    lines
}

/// The variables that `compose.yaml` gives to one of our services.
pub(crate) fn compose_environment(service: &str) -> Vec<(String, String)> {
    let lines = yaml_lines("compose.yaml");
    let of_service = lines
        .iter()
        .skip_while(|line| **line != format!("  {service}:"))
        .skip(1)
        .take_while(|line| line.starts_with("    "));
    let environment = of_service
        .skip_while(|line| *line != "    environment:")
        .skip(1)
        .take_while(|line| line.starts_with("      "));
    let pairs = environment.map(|line| {
        let (name, value) = line.trim().split_once(": ").expect("a pair");
        (name.to_owned(), value.to_owned())
    });
    pairs.collect()
}

/// What looks like a variable's name between backticks, in running text.
pub(crate) fn backticked(path: &str) -> Vec<String> {
    let text = text(path);
    let quoted = text.split('`').skip(1).step_by(2);
    let names = quoted.map(|quoted| quoted.split(['=', ' ']).next().unwrap_or_default());
    let is_name = |name: &&str| {
        name.starts_with(|first: char| first.is_ascii_uppercase())
            && name.chars().all(|letter| {
                letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_'
            })
    };
    names.filter(is_name).map(str::to_owned).collect()
}
