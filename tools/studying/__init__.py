"""What `tools/study.py` is made of.

runs.py         the runs of a study: recorded, trained, evaluated, gone on with
results.py      their results, and tables of scores
pretraining.py  the paper's study, whose report is report.py
rows.py         a table of anything beside published figures; unseen.py scores its rows on other data
events.py       each event in turn left out
"""
