"""Mistakes for tests/mutations.py in what reads token by token: recurrent layers, their state, models, streams, the way back."""

# as in mutations_decoding.py: file, the tests that have to notice, and mistakes: (name, old text, new text)
RECURRENT: list[tuple[str, str, list[tuple[str, str, str]]]] = [
    (
        "minilm/layers/recurrent.py",
        "test_recurrent.py::test_a_cell_is_that_of_torch "
        "test_recurrent.py::test_a_stack_is_that_of_torch_with_given_states "
        "test_recurrent.py::test_weights_start_as_torchs_do "
        "test_recurrent.py::test_a_forget_bias_is_that_of_the_forget_gate_alone "
        "test_recurrent.py::test_dropout_stands_between_the_layers_only",
        [
            (
                "recurrent: order of the LSTM's gates",
                "i, f, g, o = (from_x + from_h).chunk(4, -1)",
                "f, i, g, o = (from_x + from_h).chunk(4, -1)",
            ),
            (
                "recurrent: the GRU's gate the other way",
                "(1.0 - update) * proposal + update * h",
                "update * proposal + (1.0 - update) * h",
            ),
            ("recurrent: nothing is reset", "torch.tanh(x_n + reset * h_n)", "torch.tanh(x_n + h_n)"),
            ("recurrent: c is read for h", "self.recurrent(state[0]), state)", "self.recurrent(state[-1]), state)"),
            ("recurrent: dropout on the first layer", "x = self.dropout(x) if number else x", "x = self.dropout(x)"),
            (
                "recurrent: the bound of the width that is read",
                "parameter.uniform_(-(d_hidden**-0.5), d_hidden**-0.5)",
                "parameter.uniform_(-(d_in**-0.5), d_in**-0.5)",
            ),
            (
                "recurrent: forget bias in the input gate",
                "self.input.bias[d_hidden : 2 * d_hidden] = forget_bias",
                "self.input.bias[:d_hidden] = forget_bias",
            ),
            ("recurrent: c is shown as it is", "return sigmoid(o) * torch.tanh(c), c", "return sigmoid(o) * c, c"),
        ],
    ),
    (
        "minilm/layers/recurrent_cache.py",
        "test_recurrent.py::test_detach_cuts_the_gradient_and_keeps_the_numbers "
        "test_recurrent.py::test_the_last_state_forgets_all_or_nothing "
        "test_recurrent.py::test_rows_of_the_last_state_can_be_chosen_and_copied "
        "test_rnn_lm.py::test_every_split_of_a_text_gives_the_same_logits "
        "test_rnn_lm.py::test_chosen_rows_and_forks_are_independent "
        "test_rnn_lm.py::test_many_rollbacks_are_as_reading_again",
        [
            (
                "state: detach does nothing",
                "[state.detach() for state in self.states]",
                "[state for state in self.states]",
            ),
            ("state: taken back in part", "if bool(((n != 0) & (n != self.lengths)).any()):", "if False:"),
            ("state: a fork is the same", "twin.states = list(self.states)", "twin.states = self.states"),
            (
                "state: one slot too early",
                "self.lengths[:, None] + 1 + torch.arange(T)",
                "self.lengths[:, None] + torch.arange(T)",
            ),
            (
                "state: growing loses one",
                "larger[:, :slots] = self.stores[number]",
                "larger[:, : slots - 1] = self.stores[number][:, :-1]",
            ),
            ("state: a fork shares its store", "[store.clone() for store in self.stores]", "list(self.stores)"),
        ],
    ),
    (
        "minilm/models/rnn_lm.py",
        "test_rnn_lm.py::test_every_split_of_a_text_gives_the_same_logits "
        "test_rnn_lm.py::test_dropout_is_on_in_training_only "
        "test_rnn_lm.py::test_saved_and_built_again "
        "test_rnn_lm.py::test_scores_are_those_of_reading_each_document_alone",
        [
            ("rnn: always one token read", "cache.advance(ids.shape[1])", "cache.advance(1)"),
            ("rnn: no dropout before the head", "return self.dropout(x)", "return x"),
            (
                "rnn: tied by a copy",
                "self.lm_head.weight = self.embedding.weight",
                "self.lm_head.weight = nn.Parameter(self.embedding.weight.detach().clone())",
            ),
            ("rnn: scores without the state", "logits = self(tokens[:, :-1], state)", "logits = self(tokens[:, :-1])"),
            (
                "rnn: rows in another order",
                "state.select(torch.arange(len(documents)))",
                "state.select(torch.arange(len(documents)).flip(0))",
            ),
        ],
    ),
    (
        "minilm/training/streams.py",
        "test_streams.py::test_rows_go_on_where_they_ended "
        "test_streams.py::test_every_token_is_read_in_some_epoch_and_the_borders_move "
        "test_streams.py::test_the_second_window_is_read_behind_the_first "
        "test_streams.py::test_an_epoch_begins_with_an_empty_state "
        "test_streams.py::test_accumulated_windows_follow_each_other "
        "test_streams.py::test_resume_at_every_step_of_two_and_a_half_epochs",
        [
            (
                "streams: rows not side by side",
                "starts = self.offset(epoch) + (parts + number) * T",
                "starts = self.offset(epoch) + (number * self.batch_size + np.arange(self.batch_size)) * T",
            ),
            ("streams: the borders never move", ".integers(len(self.ids) - used))", ".integers(1))"),
            ("streams: never cut", "        carried.detach()\n", "        pass\n"),
            ("streams: an epoch goes on", "if anew or streams.carried is None:", "if streams.carried is None:"),
            (
                "streams: anew by what was handed out",
                "self.streams.learned % self.streams.n_windows == 0",
                "(self.streams.position - 1) % self.streams.n_windows == 0",
            ),
            (
                "streams: the state is not restored",
                "self.carried = None if states is None else LastState(states)",
                "self.carried = None",
            ),
            ("streams: its count is not restored", "int(position), int(learned)", "int(position), 0"),
        ],
    ),
    (
        "minilm/layers/additive_attention.py",
        "test_seq2seq.py::test_additive_attention_is_its_formula",
        [
            ("additive attention: no mask", "scores.masked_fill(~visible & anywhere, -math.inf)", "scores"),
            ("additive attention: no tanh", "fit = torch.tanh(", "fit = ("),
        ],
    ),
    (
        "minilm/byhand/recurrent.py",
        "test_byhand_recurrent.py::test_against_central_differences",
        [
            ("back in time: derivative at the input", "da = dh * (1.0 - h * h)", "da = dh * (1.0 - h)"),
            (
                "back in time: weights overwritten",
                "dweight, dbias = dweight + dweight_t, None",
                "dweight, dbias = dweight_t, None",
            ),
            (
                "back in time: dc forgotten",
                "dc = dc + dh * o * (1.0 - shown * shown)",
                "dc = dh * o * (1.0 - shown * shown)",
            ),
            ("back in time: the GRU's direct way", "(dout * z,)", "(dout * 0.0,)"),
            ("back in time: order of dx", "np.stack(dfrom_x[::-1], axis=1)", "np.stack(dfrom_x, axis=1)"),
        ],
    ),
]
