"""`hack/demo`: the whole way of three jobs, watched: kubectl apply, two members, paid on a chain.

`picture` reads what there is, `view` shows it, `balance` reads the chain back and compares; `__main__` is
the story.
"""
