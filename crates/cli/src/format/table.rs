//! Columns as Docker's tables have them: at least ten wide with padding of three, the last one free.

const PADDING: usize = 3;

/// Lines whose cells are parted by tabs.
#[derive(Debug)]
pub(crate) struct Table {
    lines: Vec<Vec<String>>,
    minimum: usize,
}

impl Default for Table {
    fn default() -> Table {
        Table::with_minimum(10)
    }
}

impl Table {
    /// A table whose columns are at least `minimum` wide.
    pub(crate) fn with_minimum(minimum: usize) -> Table {
        Table { lines: Vec::new(), minimum }
    }

    /// Adds a line; more lines when a cell brings line breaks.
    pub(crate) fn line(&mut self, text: &str) {
        self.lines.extend(text.split('\n').map(|line| line.split('\t').map(str::to_owned).collect()));
    }

    /// The whole text. A column is as wide as its widest cell among neighbouring lines that have it and more.
    pub(crate) fn draw(&self) -> String {
        let mut out = String::new();
        for (at, cells) in self.lines.iter().enumerate() {
            for (column, cell) in cells.iter().enumerate() {
                out.push_str(cell);
                if column + 1 < cells.len() {
                    let fill = self.width(at, column) - cell.chars().count();
                    out.extend(std::iter::repeat_n(' ', fill));
                }
            }
            out.push('\n');
        }
        out
    }

    fn width(&self, at: usize, column: usize) -> usize {
        let reaches = |line: &&Vec<String>| line.len() > column + 1;
        let (before, after) = self.lines.split_at(at);
        let block = before.iter().rev().take_while(reaches).chain(after.iter().take_while(reaches));
        let widest = block.map(|line| line[column].chars().count()).max().unwrap_or(0);
        // Padding counts towards the minimum, as in Go's tabwriter.
        (widest + PADDING).max(self.minimum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_as_docker_s_do() {
        let mut table = Table::default();
        for line in ["REPOSITORY\tTAG\tSIZE", "busybox\tlatest\t1.98MB", "a-rather-long-name\tx\t1B"] {
            table.line(line);
        }
        assert_eq!(
            table.draw(),
            "REPOSITORY           TAG       SIZE\n\
             busybox              latest    1.98MB\n\
             a-rather-long-name   x         1B\n"
        );
    }
}
