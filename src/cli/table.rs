//! Tables for people.

/// Rows under their headings, columns two spaces apart.
pub(super) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let wide = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(headings.get(column).map(|heading| heading.len())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(wide).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for (cell, width) in cells.zip(&widths) {
            line += &format!("{cell:width$}  ");
        }
        format!("{}\n", line.trim_end())
    };
    let mut table = line(&mut headings.iter().copied());
    for row in rows {
        table += &line(&mut row.iter().map(String::as_str));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["owa", "exch01"], ["autodiscover", "é"]];
        let rows = rows.map(|row| row.map(str::to_owned).to_vec());
        let shown = table(&["FARM", "SERVER"], &rows);
        assert_eq!(shown, "FARM          SERVER\nowa           exch01\nautodiscover  é\n");
    }
}
