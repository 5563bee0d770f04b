//! Small charts: one panel beside the other, x in powers, y from nought.

use std::fmt::Write as _;

const WIDTH: f64 = 260.0;
const HEIGHT: f64 = 150.0;
const LEFT: f64 = 50.0;
const TOP: f64 = 40.0;
const COLOURS: [&str; 2] = ["#1f77b4", "#d95f02"];

pub(crate) struct Panel {
    x: &'static str,
    y: &'static str,
    lines: Vec<(String, Vec<(f64, f64)>)>,
}

impl Panel {
    pub(crate) fn new(x: &'static str, y: &'static str) -> Self {
        let lines = Vec::new();
        Self { x, y, lines }
    }

    pub(crate) fn add(&mut self, line: &str, x: f64, y: f64) {
        match self.lines.iter_mut().find(|(name, _)| name == line) {
            Some((_, points)) => points.push((x, y)),
            None => self.lines.push((line.to_owned(), vec![(x, y)])),
        }
    }

    fn draw(&self, svg: &mut String, left: f64) -> std::fmt::Result {
        let points = || self.lines.iter().flat_map(|(_, points)| points);
        let least = points().map(|p| p.0).fold(f64::INFINITY, f64::min);
        let largest = points().map(|p| p.0).fold(0.0, f64::max);
        let most = points().map(|p| p.1).fold(0.0, f64::max);
        let bottom = TOP + HEIGHT;
        let at_x = |x: f64| left + WIDTH * (x / least).ln() / (largest / least).ln().max(1e-9);
        let at_y = |y: f64| bottom - HEIGHT * y / most.max(1e-9);
        writeln!(svg, "<text x='{left}' y='16'>{}</text>", self.y)?;
        writeln!(
            svg,
            "<path d='M{left},{TOP}V{bottom}h{WIDTH}' fill='none' stroke='#888'/>"
        )?;
        for y in [0.0, most / 2.0, most] {
            let (x, at) = (left - 4.0, at_y(y) + 4.0);
            writeln!(
                svg,
                "<text x='{x:.0}' y='{at:.0}' text-anchor='end'>{y:.0}</text>"
            )?;
        }
        let mut ticks: Vec<f64> = points().map(|p| p.0).collect();
        ticks.dedup();
        for x in ticks {
            let (at, y) = (at_x(x), bottom + 14.0);
            writeln!(
                svg,
                "<text x='{at:.0}' y='{y}' text-anchor='middle'>{x}</text>"
            )?;
        }
        let (x, y) = (left + WIDTH / 2.0, bottom + 30.0);
        writeln!(
            svg,
            "<text x='{x}' y='{y}' text-anchor='middle'>{}</text>",
            self.x
        )?;
        for ((name, points), colour) in self.lines.iter().zip(COLOURS) {
            let path: Vec<String> = points
                .iter()
                .map(|(x, y)| format!("{:.1},{:.1}", at_x(*x), at_y(*y)))
                .collect();
            writeln!(
                svg,
                "<polyline points='{}' fill='none' stroke='{colour}' stroke-width='2'/>",
                path.join(" ")
            )?;
            if let Some((x, y)) = points.last() {
                let (x, y) = (at_x(*x) - 4.0, at_y(*y) - 6.0);
                writeln!(
                    svg,
                    "<text x='{x:.0}' y='{y:.0}' text-anchor='end' fill='{colour}'>{name}</text>"
                )?;
            }
        }
        Ok(())
    }
}

pub(crate) fn svg(panels: &[Panel]) -> String {
    let each = LEFT + WIDTH + 20.0;
    let (width, height) = (each * panels.len() as f64, TOP + HEIGHT + 40.0);
    let mut svg = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' \
         font-family='sans-serif' font-size='11'>\n<rect width='100%' height='100%' fill='white'/>\n"
    );
    for (place, panel) in panels.iter().enumerate() {
        let left = each * place as f64 + LEFT;
        panel.draw(&mut svg, left).expect("a string takes all");
    }
    svg + "</svg>\n"
}
