"""The page of a report: its style and its template."""

from __future__ import annotations

import jinja2

__all__ = ["render_page"]


def render_page(**content) -> str:
    """Return the page as HTML, filled with the template's values, all escaped."""
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.from_string(_TEMPLATE).render(style=_STYLE, **content)


_STYLE = """
:root {
  color-scheme: light dark;
  --text: #1c2126; --soft: #5a646e; --page: #ffffff; --card: #f5f7f9;
  --line: #d5dbe1; --accent: #0063a3; --note: #fff4d6; --note-line: #d99a00;
}
@media (prefers-color-scheme: dark) {
  :root {
    --text: #e6e9ec; --soft: #a3adb7; --page: #14181c; --card: #1e242a;
    --line: #38424c; --accent: #6cb8f0; --note: #3a2f10; --note-line: #d99a00;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 68rem; color: var(--text);
  background: var(--page); font: 16px/1.5 system-ui, sans-serif;
}
h1 { font-size: 1.75rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.35rem; margin: 3rem 0 .75rem; padding-top: .75rem;
     border-top: 2px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.75rem 0 .5rem; }
h4 { font-size: .95rem; margin: 1rem 0 .25rem; }
h1, h2, h3, h4, dd, li, p { overflow-wrap: anywhere; }
td, th { overflow-wrap: break-word; max-width: 22rem; }
p { margin: .5rem 0; max-width: 46rem; }
a { color: var(--accent); }
.soft { color: var(--soft); font-size: .9rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; margin: .5rem 0; }
th, td { padding: .35rem .75rem; text-align: left; vertical-align: top;
         border-bottom: 1px solid var(--line); }
thead th { background: var(--card); border-bottom: 2px solid var(--line); }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums;
                       white-space: nowrap; }
th.number { white-space: normal; }
td small { color: var(--soft); display: block; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.25rem;
     margin: .5rem 0; font-size: .95rem; }
dt { color: var(--soft); }
dd { margin: 0; }
.note { background: var(--note); border-left: 4px solid var(--note-line);
        padding: .5rem .9rem; margin: .5rem 0; max-width: none; }
figure { margin: .5rem 0; background: #ffffff; border: 1px solid var(--line);
         border-radius: 6px; padding: .75rem; display: inline-block; max-width: 100%;
         color: #1c2126; vertical-align: top; }
figure img { max-width: 100%; height: auto; display: block; }
.side { display: flex; flex-wrap: wrap; gap: .75rem; }
.side figure { flex: 0 1 20.5rem; margin: 0; }
figcaption { font-size: .9rem; margin-bottom: .25rem; overflow-wrap: anywhere; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 6px;
      padding: .75rem; font-size: .8rem; white-space: pre-wrap;
      overflow-wrap: anywhere; }
summary { cursor: pointer; color: var(--accent); margin: .75rem 0 .25rem; }
@media print {
  body { max-width: none; padding: 0; font-size: 11pt; }
  .wide { overflow: visible; }
  figure, tr, .note { break-inside: avoid; }
  h2, h3, h4 { break-after: avoid; }
  details:not([open]) { display: none; }
}
"""

_TEMPLATE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{{ title }}</title>
<style>{{ style | safe }}</style>
</head>
<body>
{% macro rows_of(pairs) %}
<dl>
{% for name, value in pairs.items() if value %}
<dt>{{ name }}</dt><dd>{{ value }}</dd>
{% endfor %}
</dl>
{% endmacro %}
{% macro number_head(evaluation) %}
{% if evaluation.has_numbers %}
<th class="number">labelled trials</th>
{% endif %}
{% endmacro %}
{% macro number_cell(evaluation, row) %}
{% if evaluation.has_numbers %}
<td class="number">{{ row.n_labeled_trials }}</td>
{% endif %}
{% endmacro %}
{% macro shown(evaluation) %}
{% if evaluation.has_numbers %}
 Pipelines trained with {{ evaluation.shown }} labelled trials.
{% endif %}
{% endmacro %}
<header>
<h1>{{ title }}</h1>
<p class="soft">From {{ folder }}. Written on {{ made }} by braindecode-emossl
{{ environment["braindecode-emossl"] }}.</p>
{% if evaluations | length > 1 %}
<nav><ul>
{% for evaluation in evaluations %}
<li><a href="#{{ evaluation.anchor | urlencode }}">{{ evaluation.title }}</a>
<span class="soft">{{ evaluation.settings.get("target", "") }}</span></li>
{% endfor %}
</ul></nav>
{% endif %}
</header>
{% for evaluation in evaluations %}
<section id="{{ evaluation.anchor }}">
<h2>{{ evaluation.title }}</h2>
{% for note in evaluation.notes %}
<p class="note">{{ note }}</p>
{% endfor %}
{{ rows_of(evaluation.settings) }}

<h3>Summary</h3>
{% for group in evaluation.groups %}
<h4>Target access: {{ group.access }}</h4>
<p>{{ group.sentence }}</p>
<div class="wide"><table>
<thead><tr><th>corpus</th><th>pipeline</th>{{ number_head(evaluation) }}
<th class="number">subjects</th>
<th class="number">accuracy, windows</th><th class="number">accuracy, trials</th>
<th class="number">balanced acc.</th><th class="number">macro F1</th>
<th class="number">kappa</th></tr></thead>
<tbody>
{% for row in group.summary %}
<tr><td>{{ row.dataset }}</td><td>{{ row.pipeline }}</td>
{{ number_cell(evaluation, row) }}
<td class="number">{{ row.n_subjects }}</td>
{% for lines in (row.windows, row.trials) %}
<td class="number">{{ lines[0] }}
{% for line in lines[1:] if line %}
<small>{{ line }}</small>
{% endfor %}
</td>
{% endfor %}
<td class="number">{{ row.balanced_accuracy }}</td>
<td class="number">{{ row.f1_macro }}</td><td class="number">{{ row.kappa }}</td></tr>
{% endfor %}
</tbody></table></div>
<div class="wide"><table>
<thead><tr><th>corpus</th><th>pipeline</th>{{ number_head(evaluation) }}
{% for name in evaluation.classes %}
<th class="number">recall, {{ name }}</th>
{% endfor %}
<th class="number">ROC-AUC</th><th class="number">calibration error</th>
<th class="number">Brier score</th></tr></thead>
<tbody>
{% for row in group.summary %}
<tr><td>{{ row.dataset }}</td><td>{{ row.pipeline }}</td>
{{ number_cell(evaluation, row) }}
{% for recall in row.recalls %}
<td class="number">{{ recall }}</td>
{% endfor %}
<td class="number">{{ row.roc_auc }}</td><td class="number">{{ row.ece }}</td>
<td class="number">{{ row.brier }}</td></tr>
{% endfor %}
</tbody></table></div>
{% endfor %}
<p class="soft">Mean ± standard deviation over subjects, with the 95 % confidence
interval of the mean (t) below. {{ "Seeds, sessions" if evaluation.has_seeds else
"Sessions" }} and folds of a subject are averaged first.
{% if evaluation.has_seeds %}
The deviation over seeds is that of the mean over subjects.
{% endif %}
The prediction of a trial is the class with the largest mean probability over its
windows. All other scores are of windows. ROC-AUC is one class against the rest,
averaged over the classes. The calibration error is the expected one, in ten bins. The
Brier score sums over classes: 0 is best, 2 is worst. An undefined score is left empty
or out of the mean.</p>
{% if evaluation.groups | length > 1 %}
<p class="soft">Results with different target access answer different questions. They
must not be ranked together.</p>
{% endif %}

{% if evaluation.curves %}
<h3>Balanced accuracy by number of labelled trials</h3>
<figure><img src="{{ evaluation.curves }}"
alt="Balanced accuracy of each pipeline over the number of labelled trials"></figure>
<p class="soft">Labelled trials per class and training subject. Lines: mean over
subjects. Bands: 95 % confidence interval of the mean.</p>
{% endif %}

<h3>Chance</h3>
<div class="wide"><table>
<thead><tr><th>corpus</th><th class="number">trials</th>
<th class="number">most frequent class</th>
<th class="number">guessing in proportion</th>
<th class="number">5 % threshold, trials</th></tr></thead>
<tbody>
{% for row in evaluation.chances %}
<tr><td>{{ row.dataset }}</td><td class="number">{{ row.n_trials }}</td>
<td class="number">{{ row.most_frequent }}</td>
<td class="number">{{ row.proportional }}</td>
<td class="number">{{ row.threshold }}</td></tr>
{% endfor %}
</tbody></table></div>
<p class="soft">The threshold is an accuracy over all trials. Guessing exceeds it with a
probability of at most 5 % (binomial).</p>

{% if evaluation.benchmark %}
<h3>Accuracy of windows by subject</h3>
<figure><img src="{{ evaluation.benchmark }}"
alt="Accuracy of each pipeline by subject, with mean, 95 % interval and chance level">
</figure>
<p class="soft">Each point is a subject. Dashed line: always predicting the most
frequent class of the windows. Brackets: pairs that differ significantly by the test
below. {{ shown(evaluation) }}</p>
{% endif %}

<h3>Comparisons</h3>
{% for group in evaluation.groups if group.comparisons %}
<h4>Target access: {{ group.access }}</h4>
<div class="wide"><table>
<thead><tr><th>corpus</th><th>pipelines</th>{{ number_head(evaluation) }}
<th>accuracy of</th>
<th class="number">subjects</th><th class="number">difference</th>
<th class="number">95 % interval</th><th class="number">effect size</th>
<th class="number">p</th><th class="number">p, Holm</th></tr></thead>
<tbody>
{% for row in group.comparisons %}
<tr><td>{{ row.dataset }}</td><td>{{ row.first }} &minus; {{ row.second }}</td>
{{ number_cell(evaluation, row) }}
<td>{{ row.of }}</td>
<td class="number">{{ row.n_subjects }}</td><td class="number">{{ row.difference }}</td>
<td class="number">{{ row.interval }}</td>
<td class="number">{{ row.effect_size }}</td><td class="number">{{ row.p_value }}</td>
<td class="number">{{ row.p_corrected }}</td></tr>
{% endfor %}
</tbody></table></div>
{% endfor %}
{% if evaluation.groups | selectattr("comparisons") | list %}
<p class="soft">Two-sided permutation tests, paired over subjects. Only pipelines with
the same target access and number of labelled trials are compared; p-values are
corrected for the number of these pairs by Holm's method, intervals are not. Effect
size: Hedges' g of the differences.</p>
{% else %}
<p>A comparison needs two pipelines with the same target access and two subjects in
common.</p>
{% endif %}

{% if evaluation.groups | selectattr("controls") | list %}
<h3>Controls</h3>
{% for group in evaluation.groups if group.controls %}
<h4>Target access: {{ group.access }}</h4>
<div class="wide"><table>
<thead><tr><th>corpus</th><th>control</th><th>pipeline</th>
{{ number_head(evaluation) }}
<th>accuracy of</th><th class="number">subjects</th><th class="number">control</th>
<th class="number">reference</th><th class="number">difference</th>
<th class="number">95 % interval</th><th class="number">p</th>
<th class="number">p, Holm</th></tr></thead>
<tbody>
{% for row in group.controls %}
<tr><td>{{ row.dataset }}</td><td>{{ row.control }}</td><td>{{ row.pipeline }}</td>
{{ number_cell(evaluation, row) }}
<td>{{ row.of }}</td>
<td class="number">{{ row.n_subjects }}</td><td class="number">{{ row.mean }}</td>
<td class="number">{{ row.reference }}</td><td class="number">{{ row.difference }}</td>
<td class="number">{{ row.interval }}</td><td class="number">{{ row.p_value }}</td>
<td class="number">{{ row.p_corrected }}</td></tr>
{% endfor %}
</tbody></table></div>
{% endfor %}
<p class="soft">Controls are not results. The reference is the result or, under
stimulus-seen, the training without the test stimuli; the difference is control minus
reference. p: two-sided Wilcoxon test over subjects; under permuted-labels, the share of
permutations whose score over all folds and subjects reaches the result. p-values are
corrected for the number of pipelines of a control.</p>
{% endif %}

{% if evaluation.probes %}
<h3>What a linear probe reads from the features</h3>
<div class="wide"><table>
<thead><tr><th>features of</th>
{% for target in evaluation.probes.targets %}
<th class="number">{{ target }}</th>
{% endfor %}
</tr></thead>
<tbody>
{% for name, cells in evaluation.probes.rows.items() %}
<tr><td>{{ name }}</td>
{% for score, ratio in cells %}
<td class="number">{{ score }}<small>{{ ratio }}</small></td>
{% endfor %}
</tr>
{% endfor %}
<tr><td>chance</td>
{% for chance in evaluation.probes.chances %}
<td class="number">{{ chance }}</td>
{% endfor %}
</tr>
</tbody></table></div>
<p class="soft">Balanced accuracy of a linear discriminant analysis, averaged over
folds. Subject and session are read in trials that the probe was not fitted on, the
stimulus in other subjects, the label in the test windows. {{ shown(evaluation) }}</p>
{% endif %}

{% if evaluation.diagnosis.rows %}
<h3>Features before and after pre-training</h3>
{% for sentence in evaluation.diagnosis.sentences %}
<p class="note">{{ sentence }}</p>
{% endfor %}
<div class="wide"><table>
<thead><tr><th>pipeline</th>
{% for name in evaluation.diagnosis.properties %}
<th class="number">{{ name }}, before</th><th class="number">{{ name }}, after</th>
{% endfor %}
</tr></thead>
<tbody>
{% for name, cells in evaluation.diagnosis.rows.items() %}
<tr><td>{{ name }}</td>
{% for cell in cells %}
<td class="number">{{ cell }}</td>
{% endfor %}
</tr>
{% endfor %}
</tbody></table></div>
<p class="soft">Of training windows, averaged over folds. Rank: along how many
directions the features vary (participation ratio). Subject and stimulus: balanced
accuracy of a linear probe, in trials or subjects that it was not fitted on.
{{ shown(evaluation) }}</p>
{% endif %}

<h3>Confusion of windows</h3>
<p class="soft">Summed over subjects, seeds and folds. {{ shown(evaluation) }}</p>
<div class="side">
{% for item in evaluation.confusion %}
<figure><figcaption>{{ item.title }}</figcaption>
<img src="{{ item.image }}" alt="Confusion matrix of {{ item.title }}"></figure>
{% endfor %}
</div>

<h3>Scores by subject</h3>
{% for group in evaluation.groups if group.subjects.rows %}
<h4>Target access: {{ group.access }}</h4>
<div class="wide"><table>
<thead><tr><th>corpus</th><th>subject</th><th>session</th>
{% for name in group.subjects.pipelines %}
<th class="number">{{ name }}</th>
{% endfor %}
</tr></thead>
<tbody>
{% for dataset, subject, session, scores in group.subjects.rows %}
<tr><td>{{ dataset }}</td><td>{{ subject }}</td><td>{{ session }}</td>
{% for windows, trials in scores %}
<td class="number">{{ windows }}<small>{{ trials }}</small></td>
{% endfor %}
</tr>
{% endfor %}
</tbody></table></div>
{% endfor %}
<p class="soft">Accuracy of windows, with that of trials below, averaged over seeds.
{{ shown(evaluation) }}</p>

<h3>Provenance</h3>
<details><summary>Pipelines</summary>
{% for name, text in evaluation.pipelines.items() %}
<p>{{ name }}</p><pre>{{ text }}</pre>
{% endfor %}
</details>
<details><summary>Corpora, paradigm and seed, from
{{ evaluation.anchor }}/run.json</summary>
<pre>{{ evaluation.provenance }}</pre></details>
</section>
{% endfor %}

<section>
<h2>Commands</h2>
{% for record in records %}
<h3>{{ record.file }}</h3>
<p class="soft">Finished on {{ record.finished }}</p>
<pre>{{ record.command }}</pre>
{{ rows_of(record.settings) }}
<details><summary>Environment</summary>{{ rows_of(record.environment) }}</details>
{% else %}
<p>No command is stored here: the evaluations were started from Python, or no table has
been written yet.</p>
{% endfor %}
<h2>Environment of this report</h2>
{{ rows_of(environment) }}
</section>
</body>
</html>
"""
