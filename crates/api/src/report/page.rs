//! A page of headings, paragraphs and tables, for a terminal or as Markdown.

use std::fmt::Write as _;

/// How a page is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Aligned columns.
    Terminal,
    /// Markdown.
    Markdown,
}

/// A page that is being written.
#[derive(Debug)]
pub struct Page {
    style: Style,
    text: String,
}

impl Page {
    /// An empty page.
    pub const fn new(style: Style) -> Self {
        Self { style, text: String::new() }
    }

    /// What was written.
    pub fn into_text(self) -> String {
        self.text.trim_end().to_owned()
    }

    /// A heading; level 1 is the title.
    pub fn heading(&mut self, level: usize, title: &str) {
        let text = match self.style {
            Style::Markdown => format!("{} {title}\n\n", "#".repeat(level)),
            Style::Terminal if level == 1 => format!("{title}\n{}\n\n", "=".repeat(title.chars().count())),
            Style::Terminal => format!("{title}\n{}\n\n", "-".repeat(title.chars().count())),
        };
        self.text.push_str(&text);
    }

    /// A paragraph.
    pub fn paragraph(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push_str("\n\n");
    }

    /// A statement or command, on lines of its own.
    pub fn code(&mut self, language: &str, code: &str) {
        match self.style {
            Style::Markdown => self.paragraph(&format!("```{language}\n{code}\n```")),
            Style::Terminal => self.paragraph(&format!("    {}", code.replace('\n', "\n    "))),
        }
    }

    /// A table; nothing at all without rows.
    pub fn table<const N: usize>(&mut self, header: [&str; N], rows: &[[String; N]]) {
        if rows.is_empty() {
            return;
        }
        let rows: Vec<[String; N]> = rows.iter().map(|row| row.clone().map(|cell| self.cell(&cell))).collect();
        let width = |column: usize| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.chain([header[column].chars().count()]).max().unwrap_or_default()
        };
        let widths: [usize; N] = std::array::from_fn(width);
        self.row(&header.map(str::to_owned), &widths);
        match self.style {
            Style::Markdown => self.row(&widths.map(|width| "-".repeat(width.max(3))), &widths),
            Style::Terminal => self.row(&widths.map(|width| "-".repeat(width)), &widths),
        }
        for row in &rows {
            self.row(row, &widths);
        }
        self.text.push('\n');
    }

    fn row<const N: usize>(&mut self, cells: &[String; N], widths: &[usize; N]) {
        let (before, between, after) = match self.style {
            Style::Markdown => ("| ", " | ", " |"),
            Style::Terminal => ("", "  ", ""),
        };
        let padded: Vec<String> = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        let line = format!("{before}{}{after}", padded.join(between));
        // Writing into a String cannot fail.
        let _ = writeln!(self.text, "{}", line.trim_end());
    }

    /// What a cell holds must stay in it.
    fn cell(&self, text: &str) -> String {
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        match self.style {
            Style::Markdown => line.replace('|', "\\|"),
            Style::Terminal => line,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(style: Style) -> String {
        let mut page = Page::new(style);
        page.heading(1, "Title");
        page.table(["a", "long"], &[["one\n| two".to_owned(), "3".to_owned()]]);
        page.table(["a"], &[]);
        page.code("sql", "SELECT 1;");
        page.into_text()
    }

    #[test]
    fn markdown_has_tables_whose_cells_cannot_break_out() {
        let expected =
            "# Title\n\n| a          | long |\n| ---------- | ---- |\n| one \\| two | 3    |\n\n```sql\nSELECT 1;\n```";
        assert_eq!(page(Style::Markdown), expected);
    }

    #[test]
    fn a_terminal_gets_aligned_columns() {
        let expected = "Title\n=====\n\na          long\n---------  ----\none | two  3\n\n    SELECT 1;";
        assert_eq!(page(Style::Terminal), expected);
    }
}
